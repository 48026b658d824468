// A model's masks against those that readers drew: how far they overlap, and which pixels look wrong.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/overlap.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Images of any sizes, whose pixels follow each other: image i has the pixels from begin[i] to
// begin[i + 1].
struct ModelMasks {
  absl::Span<const std::int64_t> begin;  // [images + 1], from 0, ascending
  absl::Span<const std::uint8_t> label;  // [pixels] 0 or 1, as MajorityMask (pixels.h)
  absl::Span<const float> mean;          // [pixels] the readers' mean, 0 to 1
  absl::Span<const float> model;         // [pixels] the model's probability, 0 to 1
};

struct MaskIssues {
  std::vector<std::uint8_t> issue;         // [pixels] 1: the label looks wrong (segmentation.h)
  std::vector<double> image_score;         // [images] SoftMin of the pixels' P(label)
  std::vector<std::int64_t> image_issues;  // [images]
  std::vector<Overlap> overlap;            // [images] of the readers' mean and the model
};

// Confident learning over the pixels of all images at once. INVALID_ARGUMENT names the field, the rule
// and the value: sizes that do not fit, an empty image, a probability outside [0, 1], a temperature
// that is not positive. The executor changes no bit.
absl::StatusOr<MaskIssues> FindMaskIssues(const ModelMasks& masks, double temperature,
                                          Executor& executor);

}  // namespace softloss::annotation
