// Labels of every pixel of images against a model that predicts them.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Images of equal size, as segmentation models give them. P is float or double, Label std::uint8_t or
// std::int32_t; the functions below are instantiated for these.
template <typename P, typename Label>
struct Segmentation {
  int num_classes = 0;  // K, 2 to 65,536
  std::int64_t images = 0;
  std::int64_t pixels = 0;            // of an image, ≥ 1
  absl::Span<const P> probabilities;  // [images, K, pixels]; a pixel's sum to 1
  absl::Span<const Label> label;      // [images, pixels] class ids
};

struct SegmentationScores {
  std::vector<double> thresholds;          // [K] confident_learning.h
  std::vector<double> image_score;         // [images] SoftMin of the pixels' scores
  std::vector<double> image_mean;          // [images] their mean
  std::vector<std::int64_t> image_issues;  // [images] pixels that are issues
  std::int64_t issues = 0;                 // all of these
  double mean = 0;                         // of all pixels; NaN of no images
};

// Scores P[label] of every pixel, and confident learning over all pixels at once: as many pixels as are
// confidently of another class than their label are suspects, those of the lowest scores (the earlier
// of equals); suspects are issues unless their label is the likeliest class.
//
// pixel_score, [images, pixels] or empty, receives the scores; issue, [images, pixels] or empty, 1 or
// 0. Reads the probabilities once. INVALID_ARGUMENT names the field, the rule and the value: sizes that
// do not fit, a label out of range, a pixel whose largest probability is not in (0, 1 + 1e-3],
// a temperature that is not positive. The executor changes no bit.
template <typename P, typename Label>
absl::StatusOr<SegmentationScores> ScoreSegmentation(const Segmentation<P, Label>& input,
                                                     double temperature, absl::Span<P> pixel_score,
                                                     absl::Span<std::uint8_t> issue,
                                                     Executor& executor);

inline constexpr double kSoftMinTemperature = 0.1;

// Σ s·e^((1 − s)/T) / Σ e^((1 − s)/T): near the lowest of the scores, yet moved by all that are low.
// NaN of no scores.
template <typename P>
double SoftMin(absl::Span<const P> scores, double temperature = kSoftMinTemperature);

}  // namespace softloss::annotation
