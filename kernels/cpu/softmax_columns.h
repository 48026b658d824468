// Softmax cross entropy with the classes of a row in a column and rows side by side in SIMD lanes:
// for few classes, and for tiles, where rows lie that way already (formulas: kernels/loss.h).
#pragma once

#include <cstddef>

#include "kernels/cpu/row_arrays.h"

namespace softloss::cpu {

template <typename T>
struct SoftmaxColumns {
  std::size_t classes = 0;
  std::size_t rows = 0;
  std::size_t stride = 0;     // ≥ rows, a multiple of kRowQuantum
  T* x = nullptr;             // [classes][stride]: logits in, gradient (with the row weight) out
  T* t = nullptr;             // [classes][stride], as scored
  bool gradient = false;      // otherwise x is unspecified afterwards
  bool check_labels = false;  // fill label_sum, and mark labels outside [0, 1] as unusual
};

// How labels become targets, in this order.
template <typename T>
struct LabelTransform {
  bool row_sum = false;       // t are counts: divide by their sum
  const T* ignore = nullptr;  // the row is ignored (row weight -1) if every label equals this
  bool renormalize = false;
  T smoothing = 0;
  const T* class_weight = nullptr;  // [classes]
};

// Transforms t in place and fills label_sum, class_weighted, unusual. True if a row is unusual.
bool TransformLabels(const LabelTransform<float>& transform, const SoftmaxColumns<float>& block,
                     const RowArrays<float>& rows);
bool TransformLabels(const LabelTransform<double>& transform, const SoftmaxColumns<double>& block,
                     const RowArrays<double>& rows);

// Fills loss, gradient_square, the gradient, and adds to `unusual`, whose rows' results are
// unspecified. True if a row is unusual.
bool ScoreSoftmaxColumns(const SoftmaxColumns<float>& block, const RowArrays<float>& rows);
bool ScoreSoftmaxColumns(const SoftmaxColumns<double>& block, const RowArrays<double>& rows);

}  // namespace softloss::cpu
