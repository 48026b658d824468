// Regional losses in the reference: an image at a time.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "kernels/reference.h"

namespace softloss::reference {

// A row of the image. `x` and decoded (or one-hot) `t` are [classes]; not looked at where it does not
// count.
struct Position {
  bool counts = true;
  Real weight = 1;
  std::vector<Real> x, t;
};

// What an image gives, with the scales by which errors are judged. Losses are [classes], gradients
// [positions][classes].
struct Image {
  std::vector<Real> loss, terms;  // with the class weight
  std::vector<std::vector<Real>> gradient, gradient_scale;
  Real weight = 0;  // the WEIGHTED denominator's share
  Tally tally;
};

Image ScoreImage(const ScoreKey& key, const LossSpec& spec, absl::Span<const Position> positions);

}  // namespace softloss::reference
