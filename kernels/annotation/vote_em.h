// What the EM models of votes share: the pass over all votes that is an E step and the sums for the
// M step after it.
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Logarithms of probabilities below are this at least: probabilities of 0 stay finite and sure.
inline constexpr double kLeastLog = -700;
double SafeLog(double probability);

// A model as the pass reads it: the S log-probabilities of a vote lie side by side.
struct LogModel {
  std::vector<double> prior;  // [S]
  std::vector<double> vote;   // [annotators, K, S] ln e_r[s, k]
};

struct VoteSums {
  std::vector<double> prior;  // [S] Σ_i P_is over the items with votes or gold
  std::vector<double> vote;   // [annotators, K, S] Σ_i w·q_k·P_is
  double log_likelihood = 0;
};

class VoteEm {
 public:
  // Refers to votes, gold (may be null; [items, S], checked) and the executor.
  VoteEm(const Votes& votes, const Distributions* gold, int num_states, Executor& executor);

  // E step: sets `posterior` [items, S] and the sums over it.
  void Step(const LogModel& model, std::vector<double>& posterior, VoteSums& sums);
  // The sums over a posterior that is given; items with gold are set to it.
  void Sum(std::vector<double>& posterior, VoteSums& sums);

 private:
  template <int kStates, bool kGiven>
  void RunBlock(int block, const LogModel* model, double* posterior);
  template <bool kGiven>
  void Run(const LogModel* model, std::vector<double>& posterior, VoteSums& sums);

  const Votes& votes_;
  const Distributions* const gold_;
  const int states_;
  const std::int64_t cells_;  // of a VoteSums::vote
  Executor& executor_;
  const ItemBlocks blocks_;
  std::vector<VoteSums> partial_;  // [blocks]
};

struct EmTrace {
  std::vector<double> log_likelihood;  // an iteration
  bool converged = false;
};

// Iterations of E step and M step from `model` on, until the likelihood rises by no more than
// tolerance·|L| (if tolerance is not 0) or max_iterations ran. `log_density` is that of the prior
// at `model`; `maximize` sets `model` by `sums`, and returns the density there.
EmTrace IterateEm(VoteEm& em, const LogModel& model, double log_density,
                  std::vector<double>& posterior, VoteSums& sums, double tolerance,
                  int max_iterations, absl::FunctionRef<double()> maximize);

}  // namespace softloss::annotation
