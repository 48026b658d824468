#include "kernels/annotation/answer_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// Entropy of x_k / Σ x.
double Entropy(const double* x, int size) {
  double sum = 0, entropy = 0;
  for (int k = 0; k < size; ++k) sum += x[k];
  if (!(sum > 0)) return kUndefined;
  for (int k = 0; k < size; ++k) {
    if (x[k] > 0) entropy -= x[k] / sum * std::log(x[k] / sum);
  }
  return entropy;
}

// Σ w·(s·q_k + (1 − s)(1 − q_k)/(K − 1)) by the group of each vote; then its entropy.
std::vector<double> Uncertainty(const Votes& votes, absl::Span<const double> skill,
                                std::int64_t groups, bool by_item) {
  const int classes = votes.num_classes();
  std::vector<double> sums(groups * classes), entropy(groups);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      const double s = skill.empty() ? 1 : skill[votes.annotator(v)];
      double* const row = sums.data() + (by_item ? i : votes.annotator(v)) * classes;
      for (int k = 0; k < classes; ++k) {
        const double q = votes.probability(v, k);
        row[k] += votes.weight(v) * (s * q + (1 - s) * (1 - q) / (classes - 1));
      }
    }
  }
  for (std::int64_t g = 0; g < groups; ++g)
    entropy[g] = Entropy(sums.data() + g * classes, classes);
  return entropy;
}

}  // namespace

std::vector<double> Consistency(const Votes& votes, absl::Span<const double> skill,
                                absl::Span<const std::int32_t> label) {
  const int classes = votes.num_classes();
  std::vector<double> out(votes.num_items(), kUndefined), score(classes);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    if (votes.item_begin(i) == votes.item_begin(i + 1)) continue;
    std::fill(score.begin(), score.end(), 0.0);
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      const double s = skill[votes.annotator(v)];
      const double right = std::log(s), wrong = std::log((1 - s) / (classes - 1));
      for (int k = 0; k < classes; ++k) {
        const double q = votes.probability(v, k);
        // What has no part is nothing, even of a logarithm that is −∞.
        if (q > 0) score[k] += votes.weight(v) * q * right;
        if (q < 1) score[k] += votes.weight(v) * (1 - q) * wrong;
      }
    }
    const double highest = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& x : score) sum += x = std::isinf(highest) ? 0 : std::exp(x - highest);
    out[i] = sum > 0 ? score[label[i]] / sum : 0;
  }
  return out;
}

std::vector<double> ItemUncertainty(const Votes& votes, absl::Span<const double> skill) {
  return Uncertainty(votes, skill, votes.num_items(), true);
}

std::vector<double> AnnotatorUncertainty(const Votes& votes, absl::Span<const double> skill) {
  return Uncertainty(votes, skill, votes.num_annotators(), false);
}

}  // namespace softloss::annotation
