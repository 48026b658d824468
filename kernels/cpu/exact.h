// The scalar path, for rows and elements that hold NaN, infinities or huge numbers: the edge cases
// of the losses, written out. Computes in double.
#pragma once

#include "kernels/cpu/class_loss.h"

namespace softloss::cpu {

// Logits and targets of at least these magnitudes are left to this path: below them no product or
// sum of the vector code overflows, even in fp32.
inline constexpr double kExactLogit = 0x1p60;
inline constexpr double kExactLabel = 0x1p40;

struct ExactElement {
  double loss = 0;
  double gradient = 0;
};

// Without the weight. `t` is smoothed.
ExactElement ExactSigmoid(double x, double t, double pos_weight);

// ClassLoss::exact of softmax cross entropy.
double ExactSoftmax(const ExactRow& row, double* gradient);

}  // namespace softloss::cpu
