// How far a backend's results are from the reference's, on inputs that are hard on them.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/loss.h"

namespace softloss {

struct WorstError {
  double loss = 0;      // |error| over Σ|terms| of the loss's formula
  double gradient = 0;  // |error| over the gradient error scale of kernels/loss.h
};

// Scores about 100,000 elements of f32 logits with spreads up to ±80 and row offsets up to ±1e4, and
// labels that are spread out, one-hot or nearly so. Class axis last, or first.
WorstError FindWorstError(Backend& backend, Loss loss, std::int64_t classes, bool class_last);

}  // namespace softloss
