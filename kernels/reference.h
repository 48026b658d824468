// The arithmetic of the backend "reference": long double, one element at a time, no blocking and no
// tricks. It is the oracle that the other backends are measured against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "kernels/reference_losses.h"

namespace softloss::reference {

// What one row gives, with the scales by which errors are judged. Vectors over losses have one entry
// for softmax losses and one a class for elementwise losses; those over gradients one a class.
struct Row {
  std::vector<Real> loss;      // with the row weight
  std::vector<Real> gradient;  // with the row weight
  std::vector<Real> terms;     // Σ|terms| of the loss's formula
  std::vector<Real> gradient_scale;
  Real weight = 0;        // the WEIGHTED denominator's share
  Real weight_terms = 0;  // Σ|terms| of that
  Tally tally;
};

// The element `index` of `data`, exactly.
Real LoadFloat(DType dtype, const std::byte* data, std::int64_t index);
std::int64_t LoadInteger(DType dtype, const std::byte* data, std::int64_t index);

// Rounds once, to nearest even.
void StoreFloat(DType dtype, Real value, std::byte* data, std::int64_t index);

// A row's dense labels as they are scored: u8 becomes a quotient, and all are rounded to the type
// that the kernel computes in, f64 for f64 predictions and f32 otherwise. Ignoring and the input
// conditions are about these values. `raw` are the stored numbers; those of classes that `class_mask`
// (empty, or as LossSpec's) says do not exist are not looked at, and their values mean nothing.
std::vector<Real> DecodeLabels(const ScoreKey& key, absl::Span<const Real> raw,
                               absl::Span<const std::uint8_t> class_mask = {});

// Scores an unmasked row of predictions `x` and decoded (or one-hot) labels `t`, both [classes].
Row ScoreRow(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
             absl::Span<const Real> t, Real row_weight);

// The same for a row that is masked or ignored: zeros, and nothing is valid.
Row SkippedRow(const ScoreKey& key);

}  // namespace softloss::reference
