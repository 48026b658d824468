// Checks of what is given beside the votes.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

// INVALID_ARGUMENT, under the name `field`, where `given` is not for that many items and classes, or a
// present row has a value that is negative or not finite or does not sum to 1 within
// kProbabilityTolerance. Null is nothing to check.
absl::Status CheckDistributions(absl::string_view field, const Distributions* given,
                                std::int64_t num_items, int num_classes);

inline bool Present(const Distributions* given, std::int64_t item) {
  return given != nullptr && given->present[item] != 0;
}

}  // namespace softloss::annotation
