#include "kernels/cpu/softmax_cross_entropy.h"

#include "kernels/cpu/exact.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>& SoftmaxCrossEntropy() {
  static constexpr ClassLoss<T> kLoss = {
      .weighs_labels = true,
      .takes_ids = true,
      .columns = &ScoreSoftmaxColumns,
      .row = &ScoreSoftmaxRow,
      .rows = &ScoreSoftmaxRows,
      .exact = &ExactSoftmax,
  };
  return kLoss;
}

template const ClassLoss<float>& SoftmaxCrossEntropy<float>();
template const ClassLoss<double>& SoftmaxCrossEntropy<double>();

}  // namespace softloss::cpu
