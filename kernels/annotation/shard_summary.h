// What one pass over the votes says, as sums: a large campaign is cut into shards, each is summarised
// wherever it lies, and the states are merged in any order to the bits of all at once.
//
// A shard has whole items: all votes on an item are in one shard. Figures that need all votes at once
// (a consensus by Dawid-Skene or CROWDLAB, and what follows from it) are not among these.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/state.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

// The names that a shard's numbers stand for. Shards may number people and items differently.
struct ShardNames {
  absl::Span<const std::string> items, annotators, classes;
};

// `shard` names the shard, once in a merged state: two states that both have it do not merge.
// predictions and gold are of the votes' items and classes, or null. INVALID_ARGUMENT: sizes that do
// not fit, fewer than two classes.
absl::StatusOr<State> SummarizeShard(std::string_view shard, const ShardNames& names,
                                     const Votes& votes, const Distributions* predictions,
                                     const Distributions* gold, int bootstrap_replicates);

struct ShardSummary {
  std::vector<std::string> annotators;  // ascending; their numbers below
  std::int64_t items = 0, items_with_two_votes = 0, votes = 0, predictions = 0, gold = 0;
  // As Analyze has them: votes, weight, class_share and all figures of annotators but quality (the
  // intervals of the divergences from other draws, by the items' names); class_.votes, agreement,
  // cohen_kappa, pair, histogram, reliability, ece_equal_width, and alerts below the threshold. NaN
  // or empty: all that needs the votes.
  Analysis analysis;
};

// INVALID_ARGUMENT: a state that SummarizeShard did not make, or options that do not fit.
absl::StatusOr<ShardSummary> ReadSummary(const State& state, const AnalysisOptions& options);

}  // namespace softloss::annotation
