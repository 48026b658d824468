// How far the readers of images agree: each two, each with the others, and pixel by pixel.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/pixels.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Of one image, or of many whose pixels follow each other. Made of whole numbers, so exact.
struct MaskAgreement {
  PixelSums sums;
  ReaderOverlap overlap;                  // of each two
  std::vector<std::int64_t> from_others;  // [R] Σ |(R − 1)·p_r − Σ of the others' p|
  std::int64_t touched = 0;               // pixels that a reader marked: p > 0
  std::int64_t contested = 0;             // pixels where two readers' values differ

  explicit MaskAgreement(int readers) : overlap(readers), from_others(readers) {}

  // A reader with the mean of the others (overlap.h). NaN where both are empty, and of one reader.
  double DiceWithOthers(int r) const;
  double IouWithOthers(int r) const;

  MaskAgreement& operator+=(const MaskAgreement& other);  // of as many readers
  friend bool operator==(const MaskAgreement&, const MaskAgreement&) = default;
};

// INVALID_ARGUMENT as Validate(masks).
absl::StatusOr<MaskAgreement> CompareReaders(const ReaderMasks& masks, Executor& executor);

// Soft α of images that differ in how many drew them (agreement.h: a pixel of m readers counts by
// 1/(m − 1); pixels of one reader do not count). The order of images may change the last bits.
class ImagesAlpha {
 public:
  void Add(const PixelSums& sums, int readers);
  // NaN without pixels of two readers, and where all values are equal.
  double value() const;

 private:
  double values_ = 0, sum_ = 0, squares_ = 0;  // whole numbers: exact below 2^53
  double observed_ = 0;
};

}  // namespace softloss::annotation
