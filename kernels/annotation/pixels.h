// Masks that several readers drew of the same pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// value is [pixels, readers]: a reader's probability that the pixel belongs to the object, in units of
// 1/scale. Every reader saw every pixel; pixels of many images may follow each other.
struct ReaderMasks {
  absl::Span<const std::uint8_t> value;
  int readers = 0;  // 1 to kMaxReaders
  int scale = 1;    // 1: masks of 0 and 1; or up to 255. No value is above it.

  static constexpr int kMaxReaders = 1024;
  std::int64_t pixels() const {
    return readers > 0 ? static_cast<std::int64_t>(value.size()) / readers : 0;
  }
};
// INVALID_ARGUMENT names the field, the rule and the value; reads every value.
absl::Status Validate(const ReaderMasks& masks);

// Soft α of binary masks (agreement.h: alpha_soft of the votes (p, 1 − p), equal to interval α of p)
// from whole numbers, exactly, in one pass. α does not depend on the scale, which has to be one. Sums
// stay below 2^63 for fewer than 2^63/(255·readers)² pixels (8.8e12 of 4 readers). A value that merges
// to the same bits in any order.
struct PixelSums {
  std::int64_t pixels = 0;
  std::int64_t sum = 0;            // Σ p
  std::int64_t squares = 0;        // Σ p²
  std::int64_t pixel_squares = 0;  // Σ over pixels of (Σ over readers of p)²

  PixelSums& operator+=(const PixelSums& other) {
    pixels += other.pixels;
    sum += other.sum;
    squares += other.squares;
    pixel_squares += other.pixel_squares;
    return *this;
  }
  // Of as many readers. NaN of one reader, of no pixels, and where all values are equal.
  double Alpha(int readers) const;

  friend bool operator==(const PixelSums&, const PixelSums&) = default;
  template <typename Visitor>
  void VisitCounts(Visitor&& visitor) {
    for (std::int64_t* count : {&pixels, &sum, &squares, &pixel_squares}) visitor(*count);
  }
};
PixelSums SumPixels(const ReaderMasks& masks, Executor& executor);

// Of each two readers, how far their masks overlap (overlap.h). A value that merges to the same bits in
// any order.
struct ReaderOverlap {
  explicit ReaderOverlap(int readers)
      : readers(readers), sum(readers), difference(readers * static_cast<std::size_t>(readers)) {}

  int readers;
  std::vector<std::int64_t> sum;         // [R] Σ p
  std::vector<std::int64_t> difference;  // [R, R] Σ |p_r − p_s|

  ReaderOverlap& operator+=(const ReaderOverlap& other);  // of as many readers
  // NaN where both are empty.
  double Dice(int r, int s) const;
  double Iou(int r, int s) const;

  friend bool operator==(const ReaderOverlap&, const ReaderOverlap&) = default;
  template <typename Visitor>
  void VisitCounts(Visitor&& visitor) {
    for (std::int64_t& count : sum) visitor(count);
    for (std::int64_t& count : difference) visitor(count);
  }
};
ReaderOverlap SumOverlaps(const ReaderMasks& masks, Executor& executor);

// 1 where the readers' mean is at least a half, else 0; out is [pixels]. Returns how many are 1.
std::int64_t MajorityMask(const ReaderMasks& masks, absl::Span<std::uint8_t> out,
                          Executor& executor);

// What each pixel's readers do not agree on: of its Bernoulli votes H(p̄) − mean H(p_r) in bits, 0
// (alike) to 1 (half say surely yes, half surely no); out is [pixels].
void DisagreementMap(const ReaderMasks& masks, absl::Span<float> out, Executor& executor);

}  // namespace softloss::annotation
