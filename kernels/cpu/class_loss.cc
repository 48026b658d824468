#include "kernels/cpu/class_loss.h"

#include "kernels/cpu/class_family.h"
#include "kernels/cpu/softmax_cross_entropy.h"

namespace softloss::cpu {

namespace {

// At its ends Jensen-Shannon divergence is defined as another one (kernels/loss.h).
template <typename T>
const ClassLoss<T>& JensenShannon(const LossSpec& spec) {
  const float beta = ParametersOf(spec).beta;
  if (beta == 0) return FindKlDivergence<T>(spec);
  if (beta == 1) return FindReverseKlDivergence<T>(spec);
  return FindJensenShannonDivergence<T>(spec);
}

// Whether the kernels of softmax cross entropy alone do.
bool IsPlain(const LossSpec& spec) {
  const LossParameters parameters = ParametersOf(spec);
  return spec.prediction_kind == PredictionKind::kLogits && parameters.temperature == 1 &&
         parameters.z_loss == 0;
}

}  // namespace

template <typename T>
const ClassLoss<T>* FindClassLoss(const LossSpec& spec) {
  switch (spec.loss) {
    case Loss::kSoftmaxCrossEntropy:
      return IsPlain(spec) ? &SoftmaxCrossEntropy<T>() : &FindCrossEntropy<T>(spec);
    case Loss::kKlDivergence:
    case Loss::kDistillation: return &FindKlDivergence<T>(spec);
    case Loss::kReverseKlDivergence: return &FindReverseKlDivergence<T>(spec);
    case Loss::kJensenShannonDivergence: return &JensenShannon<T>(spec);
    case Loss::kBrier: return &FindBrier<T>(spec);
    case Loss::kExpectedFocal: return &FindExpectedFocal<T>(spec);
    case Loss::kPoly1CrossEntropy: return &FindPoly1CrossEntropy<T>(spec);
    case Loss::kGeneralizedCrossEntropy: return &FindGeneralizedCrossEntropy<T>(spec);
    case Loss::kSymmetricCrossEntropy: return &FindSymmetricCrossEntropy<T>(spec);
    default: return nullptr;
  }
}

template const ClassLoss<float>* FindClassLoss<float>(const LossSpec&);
template const ClassLoss<double>* FindClassLoss<double>(const LossSpec&);

}  // namespace softloss::cpu
