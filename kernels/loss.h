// What to compute: a loss, its reduction and its parameters. See docs/losses.md for the formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace softloss {

// Values equal softloss.v1.Loss on the wire. x = logit, t = label, s = σ(x), p = softmax(x).
enum class Loss : std::uint8_t {
  // An element: (1-t)·softplus(x) + t·softplus(-x), as (x ≥ 0 ? 1-t : t)·|x| + log1p(e^-|x|), where a
  // zero coefficient drops its term. Gradient s - t. With pos_weight π:
  // (1-t)·softplus(x) + π·t·softplus(-x), gradient (πt + 1 - t)·s - πt. class_weight multiplies.
  // Source: Optax `sigmoid_binary_cross_entropy`, torch `BCEWithLogitsLoss`.
  // Gradient error scale: class_weight·max(1, π)·(|t| + |1-t|).
  kSigmoidCrossEntropy = 1,
  // A row: Σ t·(m - x) + S·ln d, with m = max x, d = Σ e^(x-m), S = Σ t. Gradient S·p - t. Label
  // smoothing and class weights change t first. Source: torch `CrossEntropyLoss` (probabilities).
  // Gradient error scale: Σ |t| after smoothing and weights, which is S where no label is negative.
  kSoftmaxCrossEntropy = 2,
};

enum class Reduction : std::uint8_t { kNone = 1, kSum = 2, kMean = 3 };

// What a mean divides by; values equal softloss.v1.Normalizer. Counts clamp at 1, kWeighted never.
enum class Normalizer : std::uint8_t {
  kNone = 1,
  kFull = 2,      // rows (softmax losses) or elements (sigmoid losses)
  kValid = 3,     // of those, the ones neither masked nor ignored
  kBatch = 4,     // shape[0]
  kWeighted = 5,  // Σ row_weight·Σ_c class_weight·t before smoothing, over valid rows; for sigmoid
                  // losses Σ row_weight·class_weight over valid elements
};

enum class LabelCheck : std::uint8_t { kReport = 1, kStrict = 2, kRenormalize = 3 };

struct LossSpec {
  Loss loss = Loss::kSigmoidCrossEntropy;
  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kValid;
  LabelCheck label_check = LabelCheck::kReport;
  // t ← (1-ε)·t + ε/C before class weights; C = 2 for sigmoid losses. In [0, 1).
  float label_smoothing = 0;
  // [classes] or empty; finite and ≥ 0.
  std::vector<float> class_weight;
  // Sigmoid losses only: [1], [classes] or empty; finite and ≥ 0.
  std::vector<float> pos_weight;
  // A decoded label equal to this is ignored (NaN matches NaN): the element for sigmoid losses, the
  // row for softmax losses when all its labels equal it. Compared before smoothing.
  std::optional<double> ignore_value;
  // The class id of ignored rows. Class-id labels only.
  std::optional<std::int64_t> ignore_index;
};

// Whether a loss treats every element as a problem of its own.
constexpr bool IsElementwise(Loss loss) { return loss == Loss::kSigmoidCrossEntropy; }

// "sigmoid_cross_entropy", …
std::string_view Name(Loss loss);
std::optional<Loss> ParseLoss(std::string_view name);

// INVALID_ARGUMENT naming the field, the rule and the value. Checks all that does not need the
// tensors' shape.
absl::Status Validate(const LossSpec& spec);

}  // namespace softloss
