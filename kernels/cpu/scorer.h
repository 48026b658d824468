// Scores a range of a segment's leaves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/plan.h"

namespace softloss::cpu {

// Fills gradient and row losses of the leaves' rows and their LeafSums, and adds to `tally`; reads
// the rest of `segment` only, so that ranges of one segment may run at the same time, each with a
// scratch of its own. The status is the segment's, for the first wrong row of the range.
absl::Status ScoreLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                         std::int64_t leaf_end, Scratch& scratch, Tally& tally);

// The same by a scorer that has a key's and a segment's ScoreLeaf(row, rows, sum).
template <typename Scorer>
absl::Status ScoreEachLeaf(Scorer&& scorer, const ScoreKey& key, const Segment& segment,
                           std::int64_t leaf_begin, std::int64_t leaf_end) {
  const std::int64_t leaf_rows = LeafRows(key.classes);
  for (std::int64_t leaf = leaf_begin; leaf < leaf_end; ++leaf) {
    const std::int64_t row = leaf * leaf_rows;
    const auto n = static_cast<std::size_t>(std::min(leaf_rows, segment.rows - row));
    absl::Status status = scorer.ScoreLeaf(row, n, segment.leaves[static_cast<std::size_t>(leaf)]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// The parts of it, by loss and type of computation (float or double).
template <typename T>
absl::Status ScoreClassLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                              std::int64_t leaf_end, Scratch& scratch, Tally& tally);
template <typename T>
absl::Status ScoreBucketLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                               std::int64_t leaf_end, Scratch& scratch, Tally& tally);
template <typename T>
absl::Status ScoreSigmoidLeaves(const ScoreKey& key, const Segment& segment,
                                std::int64_t leaf_begin, std::int64_t leaf_end, Scratch& scratch,
                                Tally& tally);

}  // namespace softloss::cpu
