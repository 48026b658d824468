#include "kernels/annotation/segmentation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/confident_learning.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/segmentation_simd.h"

namespace softloss::annotation {
namespace {

constexpr double kThresholdSlack = 1e-6;    // as confident_learning.cc has it
constexpr double kProbabilitySlack = 1e-3;  // votes.h: kProbabilityTolerance
constexpr std::int64_t kTile = 2048;        // pixels whose K probabilities stay in the cache
constexpr int kBuckets = 1 << 16;

// A pixel whose label is not the likeliest class.
template <typename P>
struct Doubt {
  std::int64_t pixel;  // of all images
  std::int32_t likeliest;
  P probability;  // of the likeliest
};

template <typename P>
struct ImageSums {
  std::vector<ExactSum> confidence;  // [K] Σ P[k] where k is the label
  std::vector<std::int64_t> labels;  // [K]
  std::vector<Doubt<P>> doubts;
  absl::Status status;
};

template <typename P, typename Label>
ImageSums<P> SumImage(const Segmentation<P, Label>& input, std::int64_t image, P* score) {
  const int k_end = input.num_classes;
  ImageSums<P> out;
  out.confidence.resize(k_end);
  out.labels.resize(k_end);
  std::vector<P> best(kTile), likeliest(kTile);
  for (std::int64_t begin = 0; begin < input.pixels; begin += kTile) {
    const std::int64_t n = std::min(kTile, input.pixels - begin);
    const P* p = &input.probabilities[image * k_end * input.pixels + begin];
    const std::int64_t first = image * input.pixels + begin;
    FindLikeliest(p, input.pixels, k_end, n, best.data(), likeliest.data());
    for (std::int64_t i = 0; i < n; ++i) {
      const auto label = static_cast<std::int64_t>(input.label[first + i]);
      if (label < 0 || label >= k_end) {
        out.status = absl::InvalidArgumentError(absl::StrCat(
            "label[", image, ", ", begin + i, "]: must be from 0 to ", k_end - 1, "; was ", label));
        return out;
      }
      if (!(best[i] > 0 && best[i] <= 1 + kProbabilitySlack)) {
        out.status = absl::InvalidArgumentError(
            absl::StrCat("probabilities[", image, ", :, ", begin + i,
                         "]: must be in [0, 1] and sum to 1; the largest was ", best[i]));
        return out;
      }
      score[begin + i] = p[label * input.pixels + i];
      out.confidence[label] += score[begin + i];
      ++out.labels[label];
      const auto likely = static_cast<std::int32_t>(likeliest[i]);
      if (likely != label) out.doubts.push_back({first + i, likely, best[i]});
    }
  }
  return out;
}

// The `count`-th lowest of scores in [0, 1], with its place: the pixels up to it are the count lowest,
// the earlier of equals. By buckets, so that only one of these is sorted.
template <typename P>
std::pair<P, std::int64_t> Lowest(absl::Span<const P> scores, std::int64_t count) {
  const auto bucket = [](P score) {
    return static_cast<int>(std::clamp<double>(score, 0, 1) * (kBuckets - 1));
  };
  std::vector<std::int64_t> sizes(kBuckets);
  for (const P score : scores) ++sizes[bucket(score)];
  int b = 0;
  for (; count > sizes[b]; ++b) count -= sizes[b];
  std::vector<std::pair<P, std::int64_t>> in_bucket;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (bucket(scores[i]) == b) in_bucket.emplace_back(scores[i], i);
  }
  std::nth_element(in_bucket.begin(), in_bucket.begin() + (count - 1), in_bucket.end());
  return in_bucket[count - 1];
}

template <typename P, typename Label>
absl::Status Validate(const Segmentation<P, Label>& input, double temperature,
                      absl::Span<P> pixel_score, absl::Span<std::uint8_t> issue) {
  const auto length = [](const char* field, std::size_t has, std::int64_t wants) -> absl::Status {
    if (has == static_cast<std::size_t>(wants)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": must have ", wants, " values; has ", has));
  };
  if (input.num_classes < 2 || input.num_classes > 65'536) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_classes: must be from 2 to 65536; was ", input.num_classes));
  }
  if (input.images < 0 || input.pixels < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "images, pixels: must be at least 0 and 1; were ", input.images, " and ", input.pixels));
  }
  if (!(temperature > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("temperature: must be positive; was ", temperature));
  }
  const std::int64_t all = input.images * input.pixels;
  if (auto s = length("label", input.label.size(), all); !s.ok()) return s;
  if (auto s = length("probabilities", input.probabilities.size(), all * input.num_classes);
      !s.ok()) {
    return s;
  }
  if (!pixel_score.empty()) {
    if (auto s = length("pixel_score", pixel_score.size(), all); !s.ok()) return s;
  }
  if (!issue.empty()) {
    if (auto s = length("issue", issue.size(), all); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

template <typename P>
double SoftMin(absl::Span<const P> scores, double temperature) {
  if (scores.empty()) return std::numeric_limits<double>::quiet_NaN();
  // From the lowest score on, so that the largest power is e⁰.
  const double lowest = *std::min_element(scores.begin(), scores.end());
  double sum = 0, weight = 0;
  for (const P score : scores) {
    const double w = std::exp((lowest - score) / temperature);
    sum += w * score;
    weight += w;
  }
  return sum / weight;
}

template <typename P, typename Label>
absl::StatusOr<SegmentationScores> ScoreSegmentation(const Segmentation<P, Label>& input,
                                                     double temperature, absl::Span<P> pixel_score,
                                                     absl::Span<std::uint8_t> issue,
                                                     Executor& executor) {
  if (auto s = Validate(input, temperature, pixel_score, issue); !s.ok()) return s;
  const std::int64_t all = input.images * input.pixels;
  std::vector<P> own;
  if (pixel_score.empty()) {
    own.resize(all);
    pixel_score = absl::MakeSpan(own);
  }
  SegmentationScores out;
  out.image_score.resize(input.images);
  out.image_mean.resize(input.images);
  out.image_issues.resize(input.images);
  std::vector<ImageSums<P>> images(input.images);
  executor.ParallelFor(input.images, [&](std::int64_t image) {
    const absl::Span<P> score = pixel_score.subspan(image * input.pixels, input.pixels);
    images[image] = SumImage(input, image, score.data());
    out.image_score[image] = SoftMin(absl::Span<const P>(score), temperature);
    ExactSum sum;
    for (const ExactSum& confidence : images[image].confidence) sum += confidence;
    out.image_mean[image] = sum.value() / static_cast<double>(input.pixels);
  });

  std::vector<ExactSum> confidence(input.num_classes);
  std::vector<std::int64_t> labels(input.num_classes);
  ExactSum sum;
  for (const ImageSums<P>& image : images) {
    if (!image.status.ok()) return image.status;
    for (int k = 0; k < input.num_classes; ++k) {
      confidence[k] += image.confidence[k];
      labels[k] += image.labels[k];
      sum += image.confidence[k];
    }
  }
  out.mean = sum.value() / static_cast<double>(all);
  out.thresholds.assign(input.num_classes, ConfidentThresholds::kOfNoLabels);
  for (int k = 0; k < input.num_classes; ++k) {
    if (labels[k] == 0) continue;
    out.thresholds[k] = std::max(confidence[k].value() / static_cast<double>(labels[k]),
                                 ConfidentThresholds::kFloor);
  }

  std::int64_t suspects = 0;
  for (const ImageSums<P>& image : images) {
    for (const Doubt<P>& doubt : image.doubts) {
      if (doubt.probability >= out.thresholds[doubt.likeliest] - kThresholdSlack) ++suspects;
    }
  }
  std::fill(issue.begin(), issue.end(), std::uint8_t{0});
  if (suspects == 0) return out;
  const auto last = Lowest(absl::Span<const P>(pixel_score), suspects);
  for (std::int64_t image = 0; image < input.images; ++image) {
    for (const Doubt<P>& doubt : images[image].doubts) {
      if (std::make_pair(pixel_score[doubt.pixel], doubt.pixel) > last) continue;
      ++out.image_issues[image];
      if (!issue.empty()) issue[doubt.pixel] = 1;
    }
    out.issues += out.image_issues[image];
  }
  return out;
}

template double SoftMin<float>(absl::Span<const float>, double);
template double SoftMin<double>(absl::Span<const double>, double);

#define SOFTLOSS_SCORE_SEGMENTATION(P, Label)                              \
  template absl::StatusOr<SegmentationScores> ScoreSegmentation<P, Label>( \
      const Segmentation<P, Label>&, double, absl::Span<P>, absl::Span<std::uint8_t>, Executor&)
SOFTLOSS_SCORE_SEGMENTATION(float, std::uint8_t);
SOFTLOSS_SCORE_SEGMENTATION(float, std::int32_t);
SOFTLOSS_SCORE_SEGMENTATION(double, std::uint8_t);
SOFTLOSS_SCORE_SEGMENTATION(double, std::int32_t);
#undef SOFTLOSS_SCORE_SEGMENTATION

}  // namespace softloss::annotation
