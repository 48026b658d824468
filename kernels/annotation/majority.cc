#include "kernels/annotation/majority.h"

#include "kernels/annotation/item_blocks.h"

namespace softloss::annotation {
namespace {

// Adds the item's votes to `row`, each by its weight times its annotator's; returns the weights' sum.
double AddVotes(const Votes& votes, std::int64_t item, absl::Span<const double> annotator_weight,
                double* row) {
  const int classes = votes.num_classes();
  double total = 0;
  for (std::int64_t v = votes.item_begin(item); v < votes.item_begin(item + 1); ++v) {
    double weight = votes.weight(v);
    if (!annotator_weight.empty()) weight *= annotator_weight[votes.annotator(v)];
    total += weight;
    if (votes.soft()) {
      const auto q = votes.probabilities(v);
      for (int k = 0; k < classes; ++k) row[k] += weight * q[k];
    } else {
      row[votes.label(v)] += weight;
    }
  }
  return total;
}

}  // namespace

Consensus MajorityVote(const Votes& votes, absl::Span<const double> annotator_weight,
                       Executor& executor) {
  const int classes = votes.num_classes();
  Consensus out;
  out.posterior.assign(votes.num_items() * classes, 0.0);
  ForEachItem(votes, executor, [&](std::int64_t i) {
    double* row = out.posterior.data() + i * classes;
    double total = AddVotes(votes, i, annotator_weight, row);
    if (total == 0) total = AddVotes(votes, i, {}, row);
    for (int k = 0; k < classes; ++k) row[k] = total > 0 ? row[k] / total : 1.0 / classes;
  });

  const std::vector<std::int32_t> label = LikeliestClasses(out.posterior, classes);
  // An annotator: Σ w·q[label], Σ w.
  const std::vector<double> sums =
      SumOverItems(votes, executor, 2 * std::int64_t{votes.num_annotators()},
                   [&](std::int64_t i, double* cells) {
                     for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
                       double* const own = cells + 2 * std::int64_t{votes.annotator(v)};
                       own[0] += votes.weight(v) * votes.probability(v, label[i]);
                       own[1] += votes.weight(v);
                     }
                   });
  for (int r = 0; r < votes.num_annotators(); ++r) {
    out.skill.push_back(sums[2 * r] / sums[2 * r + 1]);  // 0 / 0 is NaN: no votes
  }
  return out;
}

}  // namespace softloss::annotation
