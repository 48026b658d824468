#include "kernels/cpu/class_loss.h"

#include "kernels/cpu/class_family.h"
#include "kernels/cpu/softmax_cross_entropy.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>* FindClassLoss(const LossSpec& spec) {
  switch (spec.loss) {
    case Loss::kKlDivergence:
    case Loss::kDistillation: return &FindKlDivergence<T>(spec);
    case Loss::kBrier: return &FindBrier<T>(spec);
    case Loss::kSoftmaxCrossEntropy: return &SoftmaxCrossEntropy<T>();
    default: return nullptr;
  }
}

template const ClassLoss<float>* FindClassLoss<float>(const LossSpec&);
template const ClassLoss<double>* FindClassLoss<double>(const LossSpec&);

}  // namespace softloss::cpu
