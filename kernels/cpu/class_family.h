// The losses over classes that are made of a term a class (formulas: kernels/loss.h): a file each.
#pragma once

#include "kernels/cpu/class_loss.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>& FindBrier(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindCrossEntropy(const LossSpec& spec);  // with general options
template <typename T>
const ClassLoss<T>& FindExpectedFocal(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindGeneralizedCrossEntropy(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindJensenShannonDivergence(const LossSpec& spec);  // β in (0, 1)
template <typename T>
const ClassLoss<T>& FindKlDivergence(const LossSpec& spec);  // distillation too
template <typename T>
const ClassLoss<T>& FindPoly1CrossEntropy(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindReverseKlDivergence(const LossSpec& spec);
template <typename T>
const ClassLoss<T>& FindSymmetricCrossEntropy(const LossSpec& spec);

}  // namespace softloss::cpu
