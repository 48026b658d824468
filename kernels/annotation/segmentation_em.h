// One mask of many: the readers' binary masks of an image joined, pixel by pixel.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace softloss::annotation {

// Masks of one image, 0 or not 0, element [reader, pixel] at data[reader·reader_stride +
// pixel·pixel_stride]. Does not own; readers ≤ 64.
struct MaskView {
  const std::uint8_t* data = nullptr;
  int readers = 0;
  std::int64_t pixels = 0;
  std::int64_t reader_stride = 0;
  std::int64_t pixel_stride = 1;
};

// [pixels] The share of readers who marked the pixel: a soft label.
absl::StatusOr<std::vector<float>> MeanMask(const MaskView& masks);

// [pixels] 1 where at least half of the readers marked the pixel (crowd-kit's rule for ties).
absl::StatusOr<std::vector<std::uint8_t>> MajorityMask(const MaskView& masks);

struct SegmentationEmOptions {
  int max_iterations = 10;
  double tolerance = 1e-5;  // stops when the bound, divided by readers·pixels, rises by less
};

struct SegmentationEm {
  std::vector<std::uint8_t> mask;  // [pixels] 1 where posterior > 0.5
  std::vector<float> posterior;    // [pixels]
  std::vector<double> accuracy;    // [readers] share of right pixels of those that anyone marked;
                                   // NaN if nobody marked any
  int iterations = 0;
};

// EM with one accuracy a reader (Lee, Das Sarma and Parameswaran, 2018), as crowd-kit's
// SegmentationEM: each iteration's posteriors are the next one's prior of the pixel, which sharpens
// them. Pixels that the same readers marked are one case, so its time is a pass over the masks and
// then little. INVALID_ARGUMENT for a shape that is not sound.
absl::StatusOr<SegmentationEm> FitSegmentationEm(const MaskView& masks,
                                                 const SegmentationEmOptions& options);

}  // namespace softloss::annotation
