#include "kernels/loss.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

constexpr ParameterRule kTemperature = {"temperature", &LossSpec::temperature, 1, 1e-3f, 1e3f};
constexpr ParameterRule kZLoss = {"z_loss", &LossSpec::z_loss, 0, 0, 1e6f};

constexpr ParameterRule kCommon[] = {kTemperature, kZLoss};
constexpr ParameterRule kReverseKl[] = {
    kTemperature, kZLoss, {"epsilon", &LossSpec::epsilon, 0, 0, 1}};
constexpr ParameterRule kJensenShannon[] = {
    kTemperature, kZLoss, {"beta", &LossSpec::beta, 0.5f, 0, 1}};
constexpr ParameterRule kQualityFocal[] = {{"beta", &LossSpec::beta, 2, 1, 16}};
constexpr ParameterRule kExpectedFocal[] = {
    kTemperature, kZLoss, {"gamma", &LossSpec::gamma, 2, 0, 16}};
constexpr ParameterRule kPoly1[] = {
    kTemperature, kZLoss, {"epsilon", &LossSpec::epsilon, 2, -1, 1e6f}};
constexpr ParameterRule kGeneralized[] = {
    kTemperature, kZLoss, {"q", &LossSpec::q, 0.7f, 0.01f, 1}};
constexpr ParameterRule kSymmetric[] = {kTemperature,
                                        kZLoss,
                                        {"alpha", &LossSpec::alpha, 1, 0, 1e6f},
                                        {"beta", &LossSpec::beta, 1, 0, 1e6f}};

constexpr ParameterRule kSmooth = {"smooth", &LossSpec::smooth, 1e-5f, 0, 1e6f};
constexpr ParameterRule kSoftDice[] = {kSmooth};
constexpr ParameterRule kTversky[] = {
    kSmooth, {"alpha", &LossSpec::alpha, 0.5f, 0, 1e6f}, {"beta", &LossSpec::beta, 0.5f, 0, 1e6f}};

struct LossRow {
  Loss loss;
  std::string_view name;
  absl::Span<const ParameterRule> parameters;
};

const LossRow kTable[] = {
    {Loss::kSigmoidCrossEntropy, "sigmoid_cross_entropy", {}},
    {Loss::kSoftmaxCrossEntropy, "softmax_cross_entropy", kCommon},
    {Loss::kKlDivergence, "kl_divergence", kCommon},
    {Loss::kReverseKlDivergence, "reverse_kl_divergence", kReverseKl},
    {Loss::kJensenShannonDivergence, "jensen_shannon_divergence", kJensenShannon},
    {Loss::kDistillation, "distillation", kCommon},
    {Loss::kBrier, "brier", kCommon},
    {Loss::kBinaryBrier, "binary_brier", {}},
    {Loss::kQualityFocal, "quality_focal", kQualityFocal},
    {Loss::kExpectedFocal, "expected_focal", kExpectedFocal},
    {Loss::kPoly1CrossEntropy, "poly1_cross_entropy", kPoly1},
    {Loss::kGeneralizedCrossEntropy, "generalized_cross_entropy", kGeneralized},
    {Loss::kSymmetricCrossEntropy, "symmetric_cross_entropy", kSymmetric},
    {Loss::kSoftDice, "soft_dice", kSoftDice},
    {Loss::kTversky, "tversky", kTversky},
};

// Every parameter there is, and where ParametersOf() puts it.
struct Slot {
  const char* name;
  std::optional<float> LossSpec::*member;
  float LossParameters::*value;
};
constexpr Slot kSlots[] = {
    {"temperature", &LossSpec::temperature, &LossParameters::temperature},
    {"z_loss", &LossSpec::z_loss, &LossParameters::z_loss},
    {"alpha", &LossSpec::alpha, &LossParameters::alpha},
    {"beta", &LossSpec::beta, &LossParameters::beta},
    {"gamma", &LossSpec::gamma, &LossParameters::gamma},
    {"epsilon", &LossSpec::epsilon, &LossParameters::epsilon},
    {"q", &LossSpec::q, &LossParameters::q},
    {"smooth", &LossSpec::smooth, &LossParameters::smooth},
};

const LossRow* Find(Loss loss) {
  const auto* row = std::find_if(std::begin(kTable), std::end(kTable),
                                 [&](const LossRow& r) { return r.loss == loss; });
  return row == std::end(kTable) ? nullptr : row;
}

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

absl::Status CheckWeights(const char* field, const std::vector<float>& weights) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] >= 0) || !std::isfinite(weights[i])) {
      return Invalid(absl::StrCat(field, ": values must be finite and not negative; value ", i,
                                  " was ", weights[i]));
    }
  }
  return absl::OkStatus();
}

// `value` as the enumerator's number, so that a bad cast is caught and shown.
template <typename Enum>
absl::Status CheckEnum(const char* field, Enum value, Enum last) {
  const int number = static_cast<int>(value);
  if (number >= 1 && number <= static_cast<int>(last)) return absl::OkStatus();
  return Invalid(
      absl::StrCat(field, ": must be in [1, ", static_cast<int>(last), "]; was ", number));
}

absl::Status CheckNormalizer(const LossSpec& spec) {
  if (spec.profile > Profile::kCaffe) {
    return Invalid(absl::StrCat("profile: must be in [0, ", static_cast<int>(Profile::kCaffe),
                                "]; was ", static_cast<int>(spec.profile)));
  }
  if (spec.normalizer == Normalizer::kProfile) {
    return spec.profile != Profile::kNone
               ? absl::OkStatus()
               : Invalid("normalizer: must be given where there is no profile");
  }
  return CheckEnum("normalizer", spec.normalizer, kLastNormalizer);
}

absl::Status CheckParameters(const LossSpec& spec) {
  const absl::Span<const ParameterRule> rules = Parameters(spec.loss);
  for (const Slot& slot : kSlots) {
    const std::optional<float>& value = spec.*slot.member;
    if (!value.has_value()) continue;
    const auto* rule = std::find_if(rules.begin(), rules.end(), [&](const ParameterRule& r) {
      return r.member == slot.member;
    });
    if (rule == rules.end()) {
      return Invalid(absl::StrCat(slot.name, ": does not apply to ", std::string(Name(spec.loss)),
                                  "; was ", *value));
    }
    if (!(*value >= rule->low && *value <= rule->high)) {
      return Invalid(absl::StrCat(slot.name, ": must be in [", rule->low, ", ", rule->high,
                                  "] for ", std::string(Name(spec.loss)), "; was ", *value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckProbabilities(const LossSpec& spec) {
  if (spec.prediction_kind != PredictionKind::kProbabilities) return absl::OkStatus();
  const LossParameters parameters = ParametersOf(spec);
  if (parameters.temperature != 1) {
    return Invalid(absl::StrCat("temperature: applies to logits only; was ", parameters.temperature,
                                " with probabilities"));
  }
  if (parameters.z_loss != 0) {
    return Invalid(absl::StrCat("z_loss: applies to logits only; was ", parameters.z_loss,
                                " with probabilities"));
  }
  return absl::OkStatus();
}

absl::Status CheckRegions(const LossSpec& spec) {
  const std::string loss(Name(spec.loss));
  if (spec.activation > Activation::kSoftmax) {
    return Invalid(absl::StrCat("activation: must be in [0, ",
                                static_cast<int>(Activation::kSoftmax), "]; was ",
                                static_cast<int>(spec.activation)));
  }
  if (IsRegional(spec.loss)) {
    if (spec.normalizer != Normalizer::kElements) return absl::OkStatus();
    return Invalid(absl::StrCat("normalizer: ELEMENTS does not apply to ", loss,
                                ", which has a loss a region; was ELEMENTS"));
  }
  if (spec.activation != Activation::kDefault) {
    return Invalid(absl::StrCat("activation: does not apply to ", loss, "; was ",
                                static_cast<int>(spec.activation)));
  }
  if (spec.batch) return Invalid(absl::StrCat("batch: does not apply to ", loss, "; was true"));
  return absl::OkStatus();
}

absl::Status CheckClassMask(const std::vector<std::uint8_t>& mask) {
  if (mask.empty() || std::any_of(mask.begin(), mask.end(), [](auto c) { return c != 0; })) {
    return absl::OkStatus();
  }
  return Invalid(
      absl::StrCat("class_mask: must leave a class; all ", mask.size(), " values were 0"));
}

}  // namespace

absl::Span<const Loss> AllLosses() {
  static const std::vector<Loss> losses = [] {
    std::vector<Loss> all;
    for (const LossRow& row : kTable) all.push_back(row.loss);
    return all;
  }();
  return losses;
}

std::string_view Name(Loss loss) {
  const LossRow* row = Find(loss);
  return row == nullptr ? "unknown" : row->name;
}

std::optional<Loss> ParseLoss(std::string_view name) {
  for (const LossRow& row : kTable) {
    if (row.name == name) return row.loss;
  }
  return std::nullopt;
}

absl::Span<const ParameterRule> Parameters(Loss loss) {
  const LossRow* row = Find(loss);
  return row == nullptr ? absl::Span<const ParameterRule>() : row->parameters;
}

LossParameters ParametersOf(const LossSpec& spec) {
  LossParameters out;
  for (const ParameterRule& rule : Parameters(spec.loss)) {
    for (const Slot& slot : kSlots) {
      if (slot.member == rule.member) out.*slot.value = (spec.*rule.member).value_or(rule.fallback);
    }
  }
  return out;
}

absl::Status Validate(const LossSpec& spec) {
  for (const absl::Status& status :
       {CheckEnum("loss", spec.loss, kLastLoss),
        CheckEnum("reduction", spec.reduction, Reduction::kMean), CheckNormalizer(spec),
        CheckEnum("label_check", spec.label_check, LabelCheck::kRenormalize),
        CheckEnum("prediction_kind", spec.prediction_kind, PredictionKind::kProbabilities),
        CheckWeights("class_weight", spec.class_weight),
        CheckWeights("pos_weight", spec.pos_weight), CheckParameters(spec),
        CheckProbabilities(spec), CheckRegions(spec), CheckClassMask(spec.class_mask)}) {
    if (!status.ok()) return status;
  }
  if (!(spec.label_smoothing >= 0 && spec.label_smoothing < 1)) {
    return Invalid(absl::StrCat("label_smoothing: must be in [0, 1); was ", spec.label_smoothing));
  }
  const std::string loss(Name(spec.loss));
  if (!spec.pos_weight.empty() && spec.loss != Loss::kSigmoidCrossEntropy) {
    return Invalid(
        absl::StrCat("pos_weight: applies to sigmoid_cross_entropy only; the loss was ", loss));
  }
  if (spec.label_check == LabelCheck::kRenormalize &&
      (IsElementwise(spec.loss) || spec.activation == Activation::kSigmoid)) {
    return Invalid(absl::StrCat(
        "label_check: RENORMALIZE applies to losses over the class axis; the loss was ", loss));
  }
  return absl::OkStatus();
}

}  // namespace softloss
