// Ambiguous, or wrong: what the disagreement about an item is made of.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

// With q̄ the mean of the item's votes (by weight), in nats:
//   H(q̄) = mean_r H(q_r) + JS(q_1 … q_m)      what each finds unclear, and where they differ
//   CE(q̄, P) = H(q̄) + KL(q̄ ‖ P)               what cannot be predicted, and where the model errs
// Hard votes have mean_entropy 0. All NaN for an item without votes; the last two NaN without a
// model's row.
struct Ambiguity {
  double entropy;        // H(q̄)
  double mean_entropy;   // mean of H(q_r), by weight
  double js;             // the difference of the two: 0 where all votes are alike
  double cross_entropy;  // CE(q̄, P), P not below kProbabilityFloor (row_scores.h)
  double kl;
};

// model is [K], or empty. mean, [K] or empty, receives q̄ (zeros of no votes).
Ambiguity ItemAmbiguity(const Votes& votes, std::int64_t item, absl::Span<const double> model = {},
                        absl::Span<double> mean = {});

}  // namespace softloss::annotation
