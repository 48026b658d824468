#include "kernels/loss.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

constexpr Loss kLosses[] = {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy};

absl::Status CheckWeights(const char* field, const std::vector<float>& weights) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] >= 0) || !std::isfinite(weights[i])) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, ": values must be finite and not negative; value ", i, " was ", weights[i]));
    }
  }
  return absl::OkStatus();
}

// `value` as the enumerator's number, so that a bad cast is caught and shown.
template <typename Enum>
absl::Status CheckEnum(const char* field, Enum value, int last) {
  const int number = static_cast<int>(value);
  if (number >= 1 && number <= last) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": must be in [1, ", last, "]; was ", number));
}

}  // namespace

std::string_view Name(Loss loss) {
  switch (loss) {
    case Loss::kSigmoidCrossEntropy: return "sigmoid_cross_entropy";
    case Loss::kSoftmaxCrossEntropy: return "softmax_cross_entropy";
  }
  return "unknown";
}

std::optional<Loss> ParseLoss(std::string_view name) {
  for (Loss loss : kLosses) {
    if (Name(loss) == name) return loss;
  }
  return std::nullopt;
}

absl::Status Validate(const LossSpec& spec) {
  for (const absl::Status& status :
       {CheckEnum("loss", spec.loss, static_cast<int>(Loss::kSoftmaxCrossEntropy)),
        CheckEnum("reduction", spec.reduction, static_cast<int>(Reduction::kMean)),
        CheckEnum("normalizer", spec.normalizer, static_cast<int>(Normalizer::kWeighted)),
        CheckEnum("label_check", spec.label_check, static_cast<int>(LabelCheck::kRenormalize)),
        CheckWeights("class_weight", spec.class_weight),
        CheckWeights("pos_weight", spec.pos_weight)}) {
    if (!status.ok()) return status;
  }
  if (!(spec.label_smoothing >= 0 && spec.label_smoothing < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("label_smoothing: must be in [0, 1); was ", spec.label_smoothing));
  }
  const std::string loss(Name(spec.loss));
  if (!spec.pos_weight.empty() && spec.loss != Loss::kSigmoidCrossEntropy) {
    return absl::InvalidArgumentError(
        absl::StrCat("pos_weight: applies to sigmoid_cross_entropy only; the loss was ", loss));
  }
  if (spec.label_check == LabelCheck::kRenormalize && IsElementwise(spec.loss)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "label_check: RENORMALIZE applies to losses over the class axis; the loss was ", loss));
  }
  return absl::OkStatus();
}

}  // namespace softloss
