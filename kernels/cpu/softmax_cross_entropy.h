// Softmax cross entropy (formulas: kernels/loss.h).
#pragma once

#include "kernels/cpu/class_loss.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>& SoftmaxCrossEntropy();

// Its kernels: a regime a file.
bool ScoreSoftmaxColumns(const ClassColumns<float>& block, const RowArrays<float>& rows);
bool ScoreSoftmaxColumns(const ClassColumns<double>& block, const RowArrays<double>& rows);
bool ScoreSoftmaxShortRows(const ClassRows<float>& block, const RowArrays<float>& rows);
bool ScoreSoftmaxShortRows(const ClassRows<double>& block, const RowArrays<double>& rows);
ClassRowResult<float> ScoreSoftmaxRow(const ClassRow<float>& row);
ClassRowResult<double> ScoreSoftmaxRow(const ClassRow<double>& row);

}  // namespace softloss::cpu
