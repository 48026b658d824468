// What to compute: a loss, its reduction and its parameters. See docs/losses.md for the formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace softloss {

// Values equal softloss.v1.Loss on the wire.
//
// Elementwise losses take each element as a problem of its own: x = logit, t = label, s = σ(x). Losses
// over classes take a row: p = softmax(x/T), m = max x/T, d = Σ e^(x/T-m), S = Σ t. Each is a sum over
// classes of w·term(p, t), w = class weight, and with q = w·p·∂term/∂p its gradient in x is
// (q - p·Σq)/T. From probabilities instead of logits it is q/p. Labels are smoothed first.
//
// "terms" is what errors of the loss are judged by: Σ of the magnitudes of the summands as written.
// The gradient's error scale is Σ of the magnitudes of q's summands, over the row, where nothing else
// is said. |ln p| counts as |x/T - m| + ln d in both.
// Regional losses take all positions of a class in an image at once: sums over them, and one loss of
// those. s = softmax(x) over the classes, or σ(x): Activation. With sums over the positions that count,
// each times its row weight r,
//   both = Σ r·min(s, t)    over = Σ r·max(s - t, 0)    under = Σ r·max(t - s, 0)
// a loss is L(both, over, under), so that nothing is lost to cancellation where s is close to t. In the
// usual names, the intersection in its L1 form is I = (Σs + Σt - Σ|s-t|)/2 = both, Σs = both + over and
// Σt = both + under. Then ∂L/∂s = r·above where s > t, r·below where s < t, and the mean of both where
// s = t (that is sgn(0) = 0), with above = ∂L/∂over and below = ∂L/∂both - ∂L/∂under.
// Terms: L, and its total differential where each sum changes by S = Σ r·(s + |t|) (σ: of s and t, or 1 - s
// and 1 - t, the smaller). The gradient's error scale: w·r·(what S does to above and below + them)·s·(1-s),
// or for softmax Σ p·(…) over the row; and where s is as good as t, whatever lies between both sides.
//
// Labels that are smoothed or renormalised are rounded before they are scored. Where the loss is not
// in proportion to t, one summand more stands for that: t in KL's terms, p in reverse KL's, (1-β)·p in
// Jensen-Shannon's q, and β·p in both of symmetric cross entropy.
enum class Loss : std::uint8_t {
  // An element: (1-t)·softplus(x) + t·softplus(-x), as (x ≥ 0 ? 1-t : t)·|x| + log1p(e^-|x|), where a
  // zero coefficient drops its term. Gradient s - t. With pos_weight π:
  // (1-t)·softplus(x) + π·t·softplus(-x), gradient (πt + 1 - t)·s - πt.
  // Source: Optax `sigmoid_binary_cross_entropy`, torch `BCEWithLogitsLoss`.
  // Gradient error scale: w·max(1, π)·(|t| + |1-t|).
  kSigmoidCrossEntropy = 1,
  // Σ t·(m - x/T) + S·ln d. Gradient S·p - t. Source: torch `CrossEntropyLoss` (probabilities).
  // Gradient error scale: Σ |wt| after smoothing.
  kSoftmaxCrossEntropy = 2,
  // KL(t‖p) = Σ t·(ln t - ln p), 0·ln 0 = 0. Gradient S·p - t. Source: torch `kl_div`.
  kKlDivergence = 3,
  // KL(p‖t) = Σ p·(ln p - ln t); t is at least `epsilon`. q = p·(ln p - ln t + 1). +∞ where p > 0 = t,
  // with NaN for that row's gradient. Source: Agarwal et al. 2024 (GKD), TRL with β = 1.
  kReverseKlDivergence = 4,
  // β·KL(t‖M) + (1-β)·KL(p‖M), M = βt + (1-β)p. q = (1-β)·p·(ln p - ln M). β = 0 stands for KL(t‖p)
  // and β = 1 for KL(p‖t), as in TRL, although the limits are 0. Source: Agarwal et al. 2024.
  kJensenShannonDivergence = 5,
  // T²·KL(t‖p). Labels are the teacher's softmax(z/T). Source: Hinton et al. 2015.
  kDistillation = 6,
  // Σ (p - t)². q = 2p·(p - t). Terms: (p + |t|)². Source: Brier 1950.
  kBrier = 7,
  // An element: (s - t)², as t' = 1 - t, s' = 1 - s where x ≥ 0. Gradient 2·(s - t)·s·(1 - s).
  // Terms D², gradient error scale 4w·D·s·(1-s), D = s + |t| (x ≥ 0: s' + |t'|).
  kBinaryBrier = 8,
  // An element: |s - t|^β·BCE. Gradient |s-t|^β·(s-t) + β·|s-t|^(β-1)·sgn(s-t)·s·(1-s)·BCE.
  // Terms (1+β)·D^β·BCE's; gradient error scale (1+β)·w·(D^(β+1) + β·D^(β-1)·s·(1-s)·BCE's terms),
  // D as above. Source: Li et al. 2020 (Generalized Focal Loss), mmdetection.
  kQualityFocal = 9,
  // -Σ t·(1-p)^γ·ln p. q = t·(γ·p·(1-p)^(γ-1)·ln p - (1-p)^γ). Terms and scale times 1 + γ.
  // Source: Lin et al. 2017, the expectation over t.
  kExpectedFocal = 10,
  // CE + ε·Σ t·(1-p). q = -t - ε·t·p. Source: Leng et al. 2022, Optax `poly_loss_cross_entropy`.
  kPoly1CrossEntropy = 11,
  // Σ t·(1 - p^q)/q. q = -t·p^q. Source: Zhang & Sabuncu 2018.
  kGeneralizedCrossEntropy = 12,
  // α·CE + β·Σ p·A, A = -ln max(t, 1e-4). q = -α·t + β·p·A. Source: Wang et al. 2019.
  kSymmetricCrossEntropy = 13,
  // A region: 1 - (2I + smooth)/(Σs + Σt + smooth) = A/(both + A + smooth/2), A = (over + under)/2.
  // 0 iff s = t, soft or not, and where nothing is there and nothing predicted.
  // above = ½·(both + smooth/2)/D², below = -(½·(both + smooth/2) + A)/D², D = both + A + smooth/2.
  // Source: Wang et al. 2023 (Dice semimetric losses, JDTLosses); Milletari et al. 2016 for hard labels;
  // smooth as in MONAI and segmentation_models_pytorch.
  kSoftDice = 14,
  // A region: 1 - (I + smooth)/(I + α·(Σs - I) + β·(Σt - I) + smooth) = A/D, A = α·over + β·under,
  // D = both + A + smooth. 0 iff s = t where α, β > 0. α = β = ½ is Dice with twice the smooth, and
  // α = β = 1 the Jaccard loss. above = α·(both + smooth)/D², below = -(β·(both + smooth) + A)/D².
  // Source: Salehi et al. 2017 for hard labels, Wang et al. 2023 (JDTLosses) for soft ones.
  kTversky = 15,
};
inline constexpr Loss kLastLoss = Loss::kTversky;

enum class Reduction : std::uint8_t { kNone = 1, kSum = 2, kMean = 3 };

// What a mean divides by; values equal softloss.v1.Normalizer. Counts clamp at 1, kWeighted never.
enum class Normalizer : std::uint8_t {
  kProfile = 0,  // what the spec's profile says (NormalizerOf, kernels/plan.h); with one only
  kNone = 1,
  kFull = 2,      // rows (softmax losses) or elements (sigmoid losses)
  kValid = 3,     // of those, the ones neither masked nor ignored
  kBatch = 4,     // shape[0]
  kWeighted = 5,  // Σ row_weight·Σ_c class_weight·t before smoothing, over valid rows; for sigmoid
                  // losses Σ row_weight·class_weight over valid elements
  kElements = 6,  // rows × classes: torch's "mean" of a KL divergence
};
inline constexpr Normalizer kLastNormalizer = Normalizer::kElements;

// Whose conventions fill in what is not said; values equal softloss.v1.Profile. docs/losses.md has the
// table. torch: means as its losses take them (class ids WEIGHTED, soft labels FULL, KL divergences
// ELEMENTS), and the mean of nothing is NaN. caffe: BATCH for sigmoid losses, VALID for others.
enum class Profile : std::uint8_t { kNone = 0, kTorch = 1, kCaffe = 2 };

enum class LabelCheck : std::uint8_t { kReport = 1, kStrict = 2, kRenormalize = 3 };

// Logits, or probabilities: one a class (losses over classes; as they are, not divided by their sum),
// or of the positive class (elementwise losses). Values equal softloss.v1.PredictionKind.
// Probabilities are clamped to at least 1e-7 (elementwise: also to at most 1 - 1e-7), gradients are
// those at the clamped value, and what is not in [0, 1] counts as not finite.
enum class PredictionKind : std::uint8_t { kLogits = 1, kProbabilities = 2 };

inline constexpr float kProbabilityFloor = 1e-7f;

// How a regional loss sees the classes of a position; values equal softloss.v1.Activation. Softmax: they
// exclude each other, and labels are a distribution, as in losses over classes. Sigmoid: each is a
// question of its own, and labels are as in elementwise losses. Of probabilities it says which of the two
// made them; they are as they are, not clamped, since no logarithm is taken.
enum class Activation : std::uint8_t {
  kDefault = 0,  // softmax if there is a class axis, else sigmoid
  kSigmoid = 1,
  kSoftmax = 2,
};

struct LossSpec {
  Loss loss = Loss::kSigmoidCrossEntropy;
  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kValid;
  Profile profile = Profile::kNone;
  LabelCheck label_check = LabelCheck::kReport;
  PredictionKind prediction_kind = PredictionKind::kLogits;
  // Regional losses only. A region is a class in an image, which is what one index of the first
  // dimension holds (all of a tensor [N], [N, C], or one whose first axis is the classes); with
  // `batch` it is a class in the whole item.
  Activation activation = Activation::kDefault;
  bool batch = false;
  // t ← (1-ε)·t + ε/C before class weights; C = 2 for sigmoid losses. In [0, 1).
  float label_smoothing = 0;
  // [classes] or empty; finite and ≥ 0. Multiplies each class's term.
  std::vector<float> class_weight;
  // Sigmoid cross entropy only: [1], [classes] or empty; finite and ≥ 0.
  std::vector<float> pos_weight;
  // A decoded label equal to this is ignored (NaN matches NaN): the element for sigmoid losses, the
  // row for softmax losses when all its labels equal it. Compared before smoothing.
  std::optional<double> ignore_value;
  // The class id of ignored rows. Class-id labels only.
  std::optional<std::int64_t> ignore_index;
  // [classes] or empty: classes with 0 do not exist. Their logits and labels are not looked at, C does
  // not count them, and their gradient is 0; elements of theirs are not valid (elementwise losses).
  std::vector<std::uint8_t> class_mask;

  // Parameters; Parameters() says which loss takes which, with defaults and bounds.
  std::optional<float> temperature, z_loss, alpha, beta, gamma, epsilon, q, smooth;
};

// Whether a loss treats every element as a problem of its own.
constexpr bool IsElementwise(Loss loss) {
  return loss == Loss::kSigmoidCrossEntropy || loss == Loss::kBinaryBrier ||
         loss == Loss::kQualityFocal;
}

// Whether a loss is one of regions (above). Not elementwise, but as good with labels of elements.
constexpr bool IsRegional(Loss loss) { return loss == Loss::kSoftDice || loss == Loss::kTversky; }

// One of LossSpec's parameters, as a loss takes it. Bounds are inclusive.
struct ParameterRule {
  const char* name;
  std::optional<float> LossSpec::*member;
  float fallback;  // if absent
  float low, high;
};
absl::Span<const ParameterRule> Parameters(Loss loss);

// A valid spec's parameters, absent ones as their fallbacks; those the loss does not take are 0, but
// the temperature is 1.
struct LossParameters {
  float temperature = 1;
  float z_loss = 0;  // λ: λ·(ln Σ e^(x/T))² is added to the loss of a row
  float alpha = 0, beta = 0, gamma = 0, epsilon = 0, q = 0, smooth = 0;
};
LossParameters ParametersOf(const LossSpec& spec);

// All of them, in the order of their values.
absl::Span<const Loss> AllLosses();

// "sigmoid_cross_entropy", …
std::string_view Name(Loss loss);
std::optional<Loss> ParseLoss(std::string_view name);

// INVALID_ARGUMENT naming the field, the rule and the value. Checks all that does not need the
// tensors' shape.
absl::Status Validate(const LossSpec& spec);

}  // namespace softloss
