// From leaf sums to an item's result, in one fixed order.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/loss.h"
#include "kernels/plan.h"

namespace softloss {

struct ItemTotals {
  double loss = 0;  // after the reduction; for Reduction::kNone the sum
  double loss_sum = 0;
  double denominator = 1;
  double gradient_scale = 1;
  double gradient_l2_norm = 0;
  bool empty = false;  // nothing was valid; a mean is then 0 (profile torch: NaN)
  Tally tally;
};

// Level by level: a level's pairs (2i, 2i+1) are added, an odd last one passes up unchanged. The
// leaves of an item always meet in the same tree, however they were chunked.
double PairwiseSum(absl::Span<const LeafSum> leaves, double LeafSum::*member);

// `leaves` are all of the item's, in order; `tally` is the sum of its segments'.
// INVALID_ARGUMENT under LabelCheck::kStrict when a label was out of range, not finite or
// unnormalised.
absl::StatusOr<ItemTotals> Finish(const LossSpec& spec, const ItemPlan& plan,
                                  absl::Span<const LeafSum> leaves, const Tally& tally);

}  // namespace softloss
