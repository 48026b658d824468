// Softmax cross entropy a row at a time, the classes in SIMD lanes: for many classes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/softmax_columns.h"

namespace softloss::cpu {

// Rows need at least this many classes: a vector, on every SIMD width.
inline constexpr std::size_t kMinRowClasses = 16;

template <typename T>
struct SoftmaxRow {
  std::size_t classes = 0;
  const T* x = nullptr;  // [classes], any alignment
  // [classes], as scored; or null, and the target is `id_weight` at `id` and 0 elsewhere.
  const T* t = nullptr;
  std::int64_t id = 0;
  T id_weight = 1;
  T row_weight = 1;
  T* gradient = nullptr;  // [classes], any alignment, not over x or t; or null
};

// The loss is row_weight·(dot + label_sum·log1p(others)); FinishLosses (row_arrays.h) takes that step for
// many rows at once.
template <typename T>
struct SoftmaxRowResult {
  T others = 0;  // d - 1
  T dot = 0;     // Σ t·(m - x)
  T label_sum = 0;
  T gradient_square = 0;  // without the row weight
  bool usable = true;     // otherwise NaN, infinity or a huge number was there: all is unspecified
  bool in_range = true;   // labels in [0, 1]
};

SoftmaxRowResult<float> ScoreSoftmaxRow(const SoftmaxRow<float>& row);
SoftmaxRowResult<double> ScoreSoftmaxRow(const SoftmaxRow<double>& row);

template <typename T>
struct LabelRowResult {
  T label_sum = 0;       // Σ t as given
  T class_weighted = 0;  // Σ class_weight·t before smoothing
  bool in_range = true;
  bool ignored = false;
};

// Transforms t [classes] in place.
LabelRowResult<float> TransformLabelRow(const LabelTransform<float>& transform, float* t,
                                        std::size_t classes);
LabelRowResult<double> TransformLabelRow(const LabelTransform<double>& transform, double* t,
                                         std::size_t classes);

}  // namespace softloss::cpu
