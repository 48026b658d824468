// Figures of a table of votes given annotators' skills: how sure its answers are.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// [items] Posterior of `label` [items] when each class is as likely before, and an annotator is right
// with probability skill [annotators], else any other class alike: crowd-kit's consistency. Soft votes
// as in one_coin.h. 0 where every class is impossible, NaN without votes.
std::vector<double> Consistency(const Votes& votes, absl::Span<const double> skill,
                                absl::Span<const std::int32_t> label, Executor& executor);

// Entropy in nats of the mean over votes of s·q_k + (1 − s)(1 − q_k)/(K − 1): crowd-kit's
// uncertainty. `skill` [annotators]; empty is 1 everywhere. NaN without votes.
std::vector<double> ItemUncertainty(const Votes& votes, absl::Span<const double> skill,
                                    Executor& executor);
std::vector<double> AnnotatorUncertainty(const Votes& votes, absl::Span<const double> skill);

}  // namespace softloss::annotation
