// The elementwise losses that are not plain sigmoid cross entropy (formulas: kernels/loss.h).
#pragma once

#include "kernels/cpu/sigmoid_cross_entropy.h"
#include "kernels/loss.h"
#include "kernels/reference.h"

namespace softloss::cpu {

// As ScoreSigmoid does. `spec` is the segment's.
template <typename T>
using ScoreElements = void (*)(const SigmoidRun<T>& run, const LossSpec& spec, LeafSum& sum,
                               Tally& tally);

// The kernel for `spec`, or null if that is ScoreSigmoid or there is none.
template <typename T>
ScoreElements<T> FindElementLoss(const LossSpec& spec);

// Whether that or ScoreSigmoid serves `spec`.
bool ServesElements(const LossSpec& spec);

// One element without weights, for what the vector code does not serve: the reference's arithmetic.
reference::Row ScoreElementExactly(const LossSpec& spec, double x, double t, double pos_weight);

}  // namespace softloss::cpu
