#include "kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

double Denominator(const LossSpec& spec, const ItemPlan& plan, absl::Span<const LeafSum> leaves,
                   const Tally& tally) {
  const Geometry& geometry = plan.geometry;
  const auto count = [](std::int64_t n) {
    return static_cast<double>(std::max<std::int64_t>(n, 1));
  };
  switch (NormalizerOf(spec, plan.key.label.kind)) {
    case Normalizer::kNone: return 1;
    case Normalizer::kFull:
      if (plan.regional()) {
        return count(geometry.rows() / plan.leaf_rows * geometry.classes);
      }
      return count(IsElementwise(spec.loss) ? geometry.elements() : geometry.rows());
    case Normalizer::kValid: return count(tally.valid);
    case Normalizer::kBatch: return count(geometry.batch);
    case Normalizer::kElements: return count(geometry.elements());
    case Normalizer::kProfile:  // never: NormalizerOf resolves it
    case Normalizer::kWeighted: return PairwiseSum(leaves, &LeafSum::weight);
  }
  return 1;
}

// The mean of nothing.
double EmptyMean(const LossSpec& spec) {
  return spec.profile == Profile::kTorch ? std::numeric_limits<double>::quiet_NaN() : 0;
}

}  // namespace

double PairwiseSum(absl::Span<const LeafSum> leaves, double LeafSum::*member) {
  if (leaves.empty()) return 0;
  std::vector<double> level(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) level[i] = leaves[i].*member;
  for (std::size_t n = level.size(); n > 1; n = (n + 1) / 2) {
    for (std::size_t i = 0; i < n / 2; ++i) level[i] = level[2 * i] + level[2 * i + 1];
    if (n % 2 == 1) level[n / 2] = level[n - 1];
  }
  return level[0];
}

absl::StatusOr<ItemTotals> Finish(const LossSpec& spec, const ItemPlan& plan,
                                  absl::Span<const LeafSum> leaves, const Tally& tally) {
  if (spec.label_check == LabelCheck::kStrict &&
      (tally.out_of_range_labels > 0 || tally.nonfinite_labels > 0 ||
       tally.unnormalized_labels > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "label: STRICT refuses labels outside [0, 1] or rows that do not sum to 1; ",
        tally.out_of_range_labels, " labels were out of range, ", tally.nonfinite_labels,
        " not finite, and ", tally.unnormalized_labels, " rows unnormalized"));
  }
  ItemTotals totals;
  totals.tally = tally;
  totals.empty = tally.valid == 0;
  totals.loss_sum = PairwiseSum(leaves, &LeafSum::loss);
  totals.gradient_l2_norm = std::sqrt(PairwiseSum(leaves, &LeafSum::gradient_square));
  totals.denominator = Denominator(spec, plan, leaves, tally);
  totals.loss = totals.loss_sum;
  if (spec.reduction == Reduction::kMean) {
    totals.loss = totals.empty ? EmptyMean(spec) : totals.loss_sum / totals.denominator;
    totals.gradient_scale = totals.denominator == 0 ? 0 : 1 / totals.denominator;
  }
  return totals;
}

}  // namespace softloss
