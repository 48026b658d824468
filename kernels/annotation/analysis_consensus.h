// The consensus of an analysis: every method that the votes allow, and which of them is taken.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/crowdlab.h"
#include "kernels/annotation/dawid_skene.h"
#include "kernels/annotation/one_coin.h"

namespace softloss::annotation {

// Matrices of more numbers than this, annotators·K², are not fitted: 64 MiB.
inline constexpr double kMaxConfusionCells = 1 << 23;

struct ConsensusFit {
  ConsensusMethod method = ConsensusMethod::kMajority;  // never kAuto
  std::vector<double> posterior;                        // [items, K], by that method
  std::vector<double> majority;                         // [items, K] mean of votes
  std::vector<double> majority_skill;                   // [annotators] share that equals it
  // These two where annotators·K² ≤ kMaxConfusionCells.
  std::optional<OneCoin> one_coin;
  std::optional<DawidSkene> dawid_skene;  // smoothed by one vote a cell
  std::optional<Crowdlab> crowdlab;       // with predictions, or where asked for
};

// kAuto: CROWDLAB with predictions, else Dawid-Skene, else (too many annotators or classes for its
// matrices, or no item with two votes, which leaves it nothing to go by) the majority.
// Gold answers clamp the items' posteriors in EM; under the other methods they replace them.
// INVALID_ARGUMENT where the method asked for cannot be had.
absl::StatusOr<ConsensusFit> FitConsensus(const Votes& votes, const Distributions* predictions,
                                          const Distributions* gold, ConsensusMethod method,
                                          Executor& executor);

}  // namespace softloss::annotation
