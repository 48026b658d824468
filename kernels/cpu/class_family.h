// The losses over classes that are made of a term a class (formulas: kernels/loss.h): a file each.
#pragma once

#include "kernels/cpu/class_loss.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>& FindBrier(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindKlDivergence(const LossSpec& spec);  // distillation too

}  // namespace softloss::cpu
