// What many people's votes on an item come to.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace softloss::annotation {

// The answer of every method. Items without votes are stated a method.
struct Consensus {
  std::vector<double> posterior;  // [items, K], row-major; a row sums to 1
  std::vector<double> skill;  // [annotators]; the method's own figure; NaN for one without votes
};

// [items] The likeliest class of each row of `posterior` [items, K]; the lowest of equals.
std::vector<std::int32_t> LikeliestClasses(absl::Span<const double> posterior, int num_classes);

}  // namespace softloss::annotation
