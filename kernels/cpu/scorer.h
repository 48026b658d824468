// Scores a range of a segment's leaves.
#pragma once

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

// The parts of it, by loss and type of computation (float or double).
template <typename T>
absl::Status ScoreClassLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                              std::int64_t leaf_end, Scratch& scratch, Tally& tally);
template <typename T>
absl::Status ScoreSigmoidLeaves(const ScoreKey& key, const Segment& segment,
                                std::int64_t leaf_begin, std::int64_t leaf_end, Scratch& scratch,
                                Tally& tally);

}  // namespace softloss::cpu
