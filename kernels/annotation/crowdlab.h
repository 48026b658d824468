// CROWDLAB (Goh, Tkachenko and Mueller, arXiv 2210.06812): a consensus of votes and a model's
// predictions, each weighted by how far it may be trusted; as cleanlab computes it, for soft votes
// too. Three passes of sums, no iteration.
//
//   posterior_k = (w_M·P_k + Σ_r w_r·(q_k·c + (1 − q_k)(1 − c)/(K − 1))) / (w_M + Σ_r w_r)
//   w_r = max(1 − (1 − A_r)/e0, ε), A_r = r's mean agreement q·q' with co-labellers' votes
//   w_M = max(1 − err_M/e0, ε)·√(mean votes an item), err_M = share of argmax P ≠ consensus
//   e0  = max(share of items whose consensus is not the commonest, ε), ε = 1e-6
//   c   = mean over items of the votes' agreement q[consensus]; e0, c, err_M over items with ≥ 2 votes
//
// computed once with the majority vote as consensus, and again with the posterior's own.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/consensus.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

struct Crowdlab {
  Consensus consensus;  // skill is annotator quality
  // [items] The posterior's likeliest class in the first round; ties as the majority vote.
  std::vector<std::int32_t> label;
  std::vector<double> quality;    // [items] posterior at label
  std::vector<double> agreement;  // [items] mean of its votes q[label]; NaN without votes
  // [annotators], NaN (class −1) without votes. consensus.skill is
  // v·(mean posterior at own votes Σ_k q_k·posterior_k) + (1 − v)·(mean q[label] over items with ≥ 2
  // votes), v = w_M/(w_M + Σ w_r·(mean votes an item)/annotators); the first term alone for one who
  // shares no item.
  std::vector<double> agreement_with_consensus;  // mean of q[label] over all their items
  // [annotators] Of the classes they vote, the one least in agreement with label; ties: more votes,
  // higher quality, lower class.
  std::vector<std::int32_t> worst_class;
  std::vector<double> weight;  // w_r; of those who share no item, by the mean A_r
  double model_weight = 0;     // w_M; 0 without predictions
};

// The majority vote behind it breaks ties by the prediction, then the class with fewer votes, then
// its voters' agreement with the items that have no tie, then the lower class (where cleanlab draws).
// An item without a prediction leaves the model's term out, so that with no predictions at all (null)
// the consensus is the votes weighted by w_r. An item without votes is its prediction, or uniform.
// Where no item has two votes nothing is known of anyone: w_r = 1, w_M = 1 and c = 1. Votes' weights
// multiply w_r and weigh all means of votes. INVALID_ARGUMENT if `predictions` has the wrong size.
absl::StatusOr<Crowdlab> FitCrowdlab(const Votes& votes, const Distributions* predictions,
                                     Executor& executor);

// ActiveLab (Goh and Mueller, arXiv 2301.11856): [items], low where one more vote is worth most:
// (W·quality + w̄/K)/(W + w̄), with W = w_M + Σ_r w_r on the item, w_M only with a prediction, and w̄
// the mean w_r over annotators with votes.
std::vector<double> ActiveLabScores(const Votes& votes, const Distributions* predictions,
                                    const Crowdlab& crowdlab);

}  // namespace softloss::annotation
