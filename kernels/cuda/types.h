// What host and device share: plain structs, so that CUDA sources need no other library.
#pragma once

#include <cstdint>

#include "layout/dtype.h"

namespace softloss::cuda {

// Values of kernels/loss.h, plan.h and backend.h in a form that device code can include.
enum class KernelLoss : std::uint8_t {
  kSigmoidCrossEntropy = 1,
  kSoftmaxCrossEntropy = 2,
  kKlDivergence = 3,
  kReverseKlDivergence = 4,
  kJensenShannonDivergence = 5,
  kDistillation = 6,
  kBrier = 7,
  kBinaryBrier = 8,
  kQualityFocal = 9,
  kExpectedFocal = 10,
  kPoly1CrossEntropy = 11,
  kGeneralizedCrossEntropy = 12,
  kSymmetricCrossEntropy = 13,
};

constexpr bool IsElementwise(KernelLoss loss) {
  return loss == KernelLoss::kSigmoidCrossEntropy || loss == KernelLoss::kBinaryBrier ||
         loss == KernelLoss::kQualityFocal;
}

// What selects a kernel and its launch shape. Nothing else does: results depend on no batch.
struct KernelKey {
  KernelLoss loss = KernelLoss::kSigmoidCrossEntropy;
  DType prediction = DType::kF32;
  DType label = DType::kF32;
  DType gradient = DType::kF32;  // read only if has_gradient
  bool has_gradient = true;
  bool general = false;  // segments may have probabilities, a temperature, z-loss or a class mask
  bool class_ids = false;
  bool row_sum = false;  // u8 labels: u8 / Σ of the row instead of u8 / 255
  bool class_last = true;
  std::int64_t classes = 1;
  std::int64_t leaf_rows = 1;  // LeafRows(classes)
};

// One leaf's sums, and its number of valid rows (elements).
struct LeafRecord {
  double loss;
  double weight;
  double gradient_square;
  std::int64_t valid;
};

// A segment's conditions: zero before the launch, then added to atomically (integers: any order gives
// the same). `bad_…` hold the largest ~row, so that 0 means none and the first bad row wins.
struct Counters {
  unsigned long long nonfinite_predictions;
  unsigned long long nonfinite_labels;
  unsigned long long nonfinite_losses;
  unsigned long long unnormalized_labels;
  unsigned long long out_of_range_labels;
  unsigned long long bad_label;
  unsigned long long bad_row_weight;
};

// A segment in device memory. Tensors start at multiples of kAlignment and may be read up to
// kSlack bytes past their end.
inline constexpr std::int64_t kAlignment = 256;
inline constexpr std::int64_t kSlack = 32;

// Of LossSpec, for the kernels that take any loss.
struct DeviceParameters {
  double temperature, z_loss, alpha, beta, gamma, epsilon, q;
  bool probabilities;
};

struct DeviceSegment {
  std::int64_t rows;
  std::int64_t first_leaf;  // leaves of the segments before this one
  const void* prediction;
  const void* label;
  const std::uint8_t* mask;  // null: every row counts
  const float* row_weight;   // null: all 1
  void* gradient;            // null without a gradient
  void* row_loss;            // null if not wanted
  LeafRecord* leaves;        // of this segment
  Counters* counters;
  const float* class_weight;       // [classes], or null
  const std::uint8_t* class_mask;  // [classes], or null
  const float* pos_weight;         // [classes] or [1], or null
  std::int32_t pos_weight_count;
  float label_smoothing;
  double ignore_value;
  std::int64_t ignore_index;
  bool has_ignore_value;
  bool has_ignore_index;
  bool renormalize;
  DeviceParameters parameters;
};

}  // namespace softloss::cuda
