// The one-coin model: an annotator is right with probability s, and else votes for any other class
// alike (Zhang, Chen, Zhou and Jordan, JMLR 17, 2016). Fitted by EM.
//
//   L = Σ_i ln Σ_k π_k Π_r exp(w·(q_k ln s_r + (1 − q_k) ln((1 − s_r)/(K − 1))))
//   E: P_ik ∝ that product;  M: s_r = Σ_i w Σ_k P_ik·q_k / Σ_i w,  π_k = mean P_ik
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/consensus.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

struct OneCoinOptions {
  // Stops when the likelihood rises by less than tolerance·|L|; 0: always runs max_iterations.
  // (crowd-kit stops by a bound that counts the prior once a vote, so earlier or later: to compare,
  // give 0 and its number of iterations.)
  double tolerance = 1e-10;
  int max_iterations = 200;
};

struct OneCoin {
  // skill is s_r. In an E step s is kept within [1e-10, 1 − 1e-10]. An item without votes is the
  // prior.
  Consensus consensus;
  std::vector<double> prior;           // [K]
  std::vector<double> log_likelihood;  // a value an iteration, of the skills its E step used
  bool converged = false;
};

// Begins at the majority vote. `gold` (null: none) sets items' posteriors. INVALID_ARGUMENT if gold
// has the wrong size.
absl::StatusOr<OneCoin> FitOneCoin(const Votes& votes, const Distributions* gold,
                                   const OneCoinOptions& options, Executor& executor);

}  // namespace softloss::annotation
