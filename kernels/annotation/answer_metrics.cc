#include "kernels/annotation/answer_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "kernels/annotation/item_blocks.h"

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// Entropy of x_k / Σ x.
double Entropy(absl::Span<const double> x) {
  double sum = 0, entropy = 0;
  for (const double v : x) sum += v;
  if (!(sum > 0)) return kUndefined;
  for (const double v : x) {
    if (v > 0) entropy -= v / sum * std::log(v / sum);
  }
  return entropy;
}

// Adds w·(s·q_k + (1 − s)(1 − q_k)/(K − 1)).
void AddVote(const Votes& votes, std::int64_t v, absl::Span<const double> skill,
             absl::Span<double> row) {
  const double s = skill.empty() ? 1 : skill[votes.annotator(v)];
  const double others = static_cast<double>(row.size()) - 1;
  for (std::size_t k = 0; k < row.size(); ++k) {
    const double q = votes.probability(v, static_cast<int>(k));
    row[k] += votes.weight(v) * (s * q + (1 - s) * (1 - q) / others);
  }
}

}  // namespace

std::vector<double> Consistency(const Votes& votes, absl::Span<const double> skill,
                                absl::Span<const std::int32_t> label, Executor& executor) {
  const int classes = votes.num_classes();
  std::vector<double> out(votes.num_items(), kUndefined);
  ForEachItem(votes, executor, [&](std::int64_t i) {
    if (votes.item_begin(i) == votes.item_begin(i + 1)) return;
    absl::InlinedVector<double, 16> score(classes);
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
  });
  return out;
}

std::vector<double> ItemUncertainty(const Votes& votes, absl::Span<const double> skill,
                                    Executor& executor) {
  std::vector<double> out(votes.num_items(), kUndefined);
  ForEachItem(votes, executor, [&](std::int64_t i) {
    absl::InlinedVector<double, 16> row(votes.num_classes());
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      AddVote(votes, v, skill, absl::MakeSpan(row));
    }
    out[i] = Entropy(row);
  });
  return out;
}

std::vector<double> AnnotatorUncertainty(const Votes& votes, absl::Span<const double> skill) {
  const std::int64_t classes = votes.num_classes();
  std::vector<double> sums(votes.num_annotators() * classes), out(votes.num_annotators());
  const auto row = [&](std::int64_t r) {
    return absl::MakeSpan(sums).subspan(r * classes, classes);
  };
  for (std::int64_t v = 0; v < votes.size(); ++v) AddVote(votes, v, skill, row(votes.annotator(v)));
  for (std::int64_t r = 0; r < votes.num_annotators(); ++r) out[r] = Entropy(row(r));
  return out;
}

}  // namespace softloss::annotation
