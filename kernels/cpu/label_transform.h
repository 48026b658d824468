// How dense labels become the targets that are scored.
#pragma once

#include <cstddef>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/row_arrays.h"

namespace softloss::cpu {

// In this order.
template <typename T>
struct LabelTransform {
  bool row_sum = false;       // t are counts: divide by their sum
  const T* ignore = nullptr;  // the row is ignored (row weight -1) if every label equals this
  bool renormalize = false;
  T smoothing = 0;
  const T* class_weight = nullptr;  // [classes]
  bool weighs_labels = true;        // t is multiplied by class_weight
};

// Transforms t in place and fills label_sum, class_weighted, unusual. True if a row is unusual.
bool TransformLabels(const LabelTransform<float>& transform, const ClassColumns<float>& block,
                     const RowArrays<float>& rows);
bool TransformLabels(const LabelTransform<double>& transform, const ClassColumns<double>& block,
                     const RowArrays<double>& rows);

template <typename T>
struct LabelRowResult {
  T label_sum = 0;       // Σ t as given
  T class_weighted = 0;  // Σ class_weight·t before smoothing
  bool in_range = true;
  bool ignored = false;
};

// Transforms t [classes], of which there are at least kMinRowClasses, in place.
LabelRowResult<float> TransformLabelRow(const LabelTransform<float>& transform, float* t,
                                        std::size_t classes);
LabelRowResult<double> TransformLabelRow(const LabelTransform<double>& transform, double* t,
                                         std::size_t classes);

}  // namespace softloss::cpu
