// Dawid and Skene's model (Applied Statistics 28, 1979), fitted by EM: an item has a true state drawn
// from a prior, and every annotator a matrix of what they vote on items of each state.
//
//   L = Σ_i ln Σ_s π_s Π_r Π_k e_r[s, k]^(w·q_k)      the likelihood that EM raises, with
//   E: P_is ∝ π_s exp Σ_r w Σ_k q_k ln e_r[s, k]       soft votes q, which are one-hot of hard votes,
//   M: e_r[s, k] ∝ Σ_i P_is·w·q_k,  π_s ∝ Σ_i P_is     and votes' weights w.
//
// All in the log domain, in canonical order of votes: the same votes give the same bits whatever
// their rows' order and the number of threads. Memory: the votes, [items, S] and a few [annotators,
// S, K].
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/consensus.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

struct DawidSkeneOptions {
  // Stops when the likelihood rises by less than tolerance·|L|; 0: always runs max_iterations.
  double tolerance = 1e-10;
  int max_iterations = 200;
  // Added to each cell of a confusion matrix and to each class of the prior before they are divided
  // by their sums: Dirichlet priors, whose terms then belong to the likelihood that is recorded.
  double smoothing = 0;
  double prior_smoothing = 0;
};

// What was learnt; a warm start. S states are the K classes, unless the start says otherwise.
struct DawidSkeneModel {
  int num_states = 0;             // S
  int num_classes = 0;            // K
  std::vector<double> prior;      // [S]
  std::vector<double> confusion;  // [annotators, S, K]; a row is what is voted on items of a state.
                                  // All NaN for one without votes; in states never met, uniform
                                  // over the classes that the annotator votes (as crowd-kit)
};

// Where EM begins; by default at the majority vote. At most one of the two.
struct DawidSkeneStart {
  // [items, S] rows that sum to 1. S may differ from K, where the true states are not the answers:
  // "no, maybe, yes" of what is true or not.
  absl::Span<const double> posterior;
  // A fitted model of the same annotators' numbers (its annotators may be fewer, or have NaN for
  // those it does not know): the items begin at its posterior, and where it knows none of an item's
  // annotators, at their majority vote.
  const DawidSkeneModel* model = nullptr;
};

struct DawidSkene {
  // posterior [items, S]: an item with neither votes nor gold is the prior. skill: an annotator's
  // mean posterior at their own votes, Σ_i w Σ_k P_ik·q_k / Σ_i w; NaN where S ≠ K.
  Consensus consensus;
  DawidSkeneModel model;               // by an M step from that posterior
  std::vector<double> log_likelihood;  // a value an iteration, of the model its E step used
  bool converged = false;              // before max_iterations ran out
};

// `gold`: known answers (null: none); an item's posterior is then that distribution, and its term of
// the likelihood is Σ_s gold_s (ln π_s + …). Items with neither votes nor gold do not count for the
// prior. INVALID_ARGUMENT names what has the wrong size or is not a distribution.
//
// Online: when votes are added, call this again on the grown table with `start.model` the last
// model, and a few iterations; the likelihood climbs from where it stood.
absl::StatusOr<DawidSkene> FitDawidSkene(const Votes& votes, const Distributions* gold,
                                         const DawidSkeneStart& start,
                                         const DawidSkeneOptions& options, Executor& executor);

// One E step: [items, S] posteriors of votes under a model fitted before, for new items at once.
// Annotators whom the model does not know count for nothing.
absl::StatusOr<std::vector<double>> DawidSkenePosterior(const Votes& votes,
                                                        const DawidSkeneModel& model,
                                                        Executor& executor);

}  // namespace softloss::annotation
