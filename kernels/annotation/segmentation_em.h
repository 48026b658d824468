// One mask of many: the readers' binary masks of an image joined, pixel by pixel.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/pixels.h"

namespace softloss::annotation {

// [pixels] The readers' mean of each pixel, from 0 to 1: a soft label. (The binary one is MajorityMask,
// pixels.h.) INVALID_ARGUMENT as Validate(masks).
absl::StatusOr<std::vector<float>> MeanMask(const ReaderMasks& masks);

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
// them. The masks are of one image; pixels that the same readers marked are one case, so that its time
// is a pass over the masks and then little. INVALID_ARGUMENT as Validate(masks), and for a scale that
// is not 1, or more than 64 readers.
absl::StatusOr<SegmentationEm> FitSegmentationEm(const ReaderMasks& masks,
                                                 const SegmentationEmOptions& options);

}  // namespace softloss::annotation
