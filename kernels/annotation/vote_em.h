// What the EM models of votes share: the pass over all votes that is an E step and the sums for the
// M step after it.
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Logarithms of probabilities are this at least, so that what is impossible stays finite: where all
// states are, the one against which least speaks is left.
inline constexpr double kLeastLog = -700;
double SafeLog(double probability);

// A model as the pass reads it: the S probabilities of a vote lie side by side.
struct VoteModel {
  std::vector<double> prior;  // [S]
  std::vector<double> vote;   // [annotators, K, S] e_r[s, k]
  // [annotators, K, S] ln e_r[s, k]; only where the pass NeedsLogs().
  std::vector<double> log_vote;
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

  // Whether votes are raised to powers, or have known answers.
  bool NeedsLogs() const { return votes_.soft() || votes_.weighted() || gold_ != nullptr; }

  // E step: sets `posterior` [items, S] and the sums over it.
  void Step(const VoteModel& model, std::vector<double>& posterior, VoteSums& sums);
  // The sums over a posterior that is given; items with gold are set to it.
  void Sum(std::vector<double>& posterior, VoteSums& sums);

 private:
  void Run(const VoteModel* model, std::vector<double>& posterior, VoteSums& sums);

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
EmTrace IterateEm(VoteEm& em, const VoteModel& model, double log_density,
                  std::vector<double>& posterior, VoteSums& sums, double tolerance,
                  int max_iterations, absl::FunctionRef<double()> maximize);

}  // namespace softloss::annotation
