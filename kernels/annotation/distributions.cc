#include "kernels/annotation/distributions.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace softloss::annotation {

absl::Status CheckDistributions(absl::string_view field, const Distributions* given,
                                std::int64_t num_items, int num_classes) {
  if (given == nullptr) return absl::OkStatus();
  const auto items = static_cast<std::size_t>(num_items);
  if (given->present.size() != items || given->probability.size() != items * num_classes) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ": must have ", num_items, " items of ", num_classes, " classes; has ",
        given->present.size(), " items and ", given->probability.size(), " probabilities"));
  }
  for (std::size_t i = 0; i < items; ++i) {
    if (!given->present[i]) continue;
    double sum = 0;
    for (int k = 0; k < num_classes; ++k) {
      const double p = given->probability[i * num_classes + k];
      if (!(p >= 0) || std::isinf(p)) {
        return absl::InvalidArgumentError(
            absl::StrCat(field, "[", i, "][", k, "]: must be finite and not negative; was ", p));
      }
      sum += p;
    }
    if (std::abs(sum - 1) > kProbabilityTolerance) {
      return absl::InvalidArgumentError(absl::StrCat(field, "[", i, "]: must sum to 1 within ",
                                                     kProbabilityTolerance, "; sums to ", sum));
    }
  }
  return absl::OkStatus();
}

}  // namespace softloss::annotation
