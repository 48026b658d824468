#include "kernels/backend.h"

namespace softloss {

Tally& Tally::operator+=(const Tally& o) {
  valid += o.valid;
  nonfinite_predictions += o.nonfinite_predictions;
  nonfinite_labels += o.nonfinite_labels;
  nonfinite_losses += o.nonfinite_losses;
  unnormalized_labels += o.unnormalized_labels;
  out_of_range_labels += o.out_of_range_labels;
  return *this;
}

}  // namespace softloss
