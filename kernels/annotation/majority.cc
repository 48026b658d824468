#include "kernels/annotation/majority.h"

#include <limits>

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
  std::vector<double> weight(votes.num_annotators());
  out.skill.assign(votes.num_annotators(), 0.0);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      out.skill[votes.annotator(v)] += votes.weight(v) * votes.probability(v, label[i]);
      weight[votes.annotator(v)] += votes.weight(v);
    }
  }
  for (std::size_t r = 0; r < weight.size(); ++r) {
    out.skill[r] =
        weight[r] > 0 ? out.skill[r] / weight[r] : std::numeric_limits<double>::quiet_NaN();
  }
  return out;
}

}  // namespace softloss::annotation
