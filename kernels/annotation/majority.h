// Majority vote: an item's consensus is the mean of its votes.
#pragma once

#include "absl/types/span.h"
#include "kernels/annotation/consensus.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// posterior[i] = Σ_r w_r·q_r / Σ_r w_r over the votes r on item i, where w_r is the vote's own weight
// times its annotator's, of `annotator_weight` [annotators] (finite, ≥ 0; empty is 1 everywhere).
// Where all weights on an item are 0 they count as the votes' own; an item without votes is uniform.
// skill[r] = Σ w·q[consensus] / Σ w over r's votes, w the votes' own weights: of hard votes, the share
// that equals the consensus, which is the likeliest class, the lowest of equals (LikeliestClasses;
// crowd-kit's MajorityVote has the same rule, cleanlab's other tie breaks are in crowdlab.h).
Consensus MajorityVote(const Votes& votes, absl::Span<const double> annotator_weight,
                       Executor& executor);

}  // namespace softloss::annotation
