// Regional losses: images, one after another.
#pragma once

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/executor.h"
#include "kernels/plan.h"

namespace softloss::cpu {

// Fills all of the segment's outputs. Two passes over an image: sums over its regions, in blocks of
// positions that depend on the key alone and are added in one fixed tree, then the gradient. Blocks are
// shared out through `executor`. T is the type of computation, float or double.
template <typename T>
void ScoreRegions(const ScoreKey& key, Segment& segment, Executor& executor);

}  // namespace softloss::cpu
