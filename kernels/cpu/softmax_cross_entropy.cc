#include "kernels/cpu/softmax_cross_entropy.h"

#include "kernels/cpu/exact.h"

namespace softloss::cpu {

template <typename T>
const ClassLoss<T>& SoftmaxCrossEntropy() {
  static constexpr ClassLoss<T> kLoss = {
      .weighs_labels = true,
      .takes_ids = true,
      .takes_tiles = true,
      .columns = &ScoreSoftmaxColumns,
      .row = &ScoreSoftmaxRow,
      .short_rows = &ScoreSoftmaxShortRows,
      .exact = &ExactSoftmax,
  };
  return kLoss;
}

template const ClassLoss<float>& SoftmaxCrossEntropy<float>();
template const ClassLoss<double>& SoftmaxCrossEntropy<double>();

}  // namespace softloss::cpu
