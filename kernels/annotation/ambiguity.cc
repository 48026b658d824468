#include "kernels/annotation/ambiguity.h"

#include <limits>
#include <vector>

#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {

Ambiguity ItemAmbiguity(const Votes& votes, std::int64_t item, absl::Span<const double> model,
                        absl::Span<double> mean) {
  constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
  Ambiguity out{kUndefined, kUndefined, kUndefined, kUndefined, kUndefined};
  std::vector<double> own;
  if (mean.empty()) {
    own.resize(votes.num_classes());
    mean = absl::MakeSpan(own);
  }
  for (double& x : mean) x = 0;
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  if (begin == end) return out;

  double total = 0;
  for (std::int64_t v = begin; v < end; ++v) total += votes.weight(v);
  out.mean_entropy = 0;
  for (std::int64_t v = begin; v < end; ++v) {
    const double share = votes.weight(v) / total;
    if (votes.soft()) {
      const Row q = votes.probabilities(v);
      for (std::size_t k = 0; k < q.size(); ++k) mean[k] += share * q[k];
      out.mean_entropy += share * Entropy(q);
    } else {
      mean[votes.label(v)] += share;
    }
  }
  out.entropy = Entropy(mean);

  // JS as the mean divergence from q̄, by terms: the difference of entropies would be rounding alone
  // where votes are nearly alike.
  out.js = 0;
  for (std::int64_t v = begin; v < end; ++v) {
    const double share = votes.weight(v) / total;
    if (votes.soft()) {
      out.js += share * KlDivergence(votes.probabilities(v), mean);
    } else {
      out.js += share * CrossEntropy(votes.label(v), mean);
    }
  }
  if (out.js < 0) out.js = 0;
  if (!model.empty()) {
    out.cross_entropy = CrossEntropy(mean, model);
    out.kl = KlDivergence(mean, model);
  }
  return out;
}

}  // namespace softloss::annotation
