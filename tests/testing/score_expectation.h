// What a case must give, and how far from it a backend may be.
#pragma once

#include <vector>

#include "kernels/reference.h"
#include "tests/testing/score_case.h"

namespace softloss::testing {

// The error bounds of the contract. A result of dtype D may also be off by D's own rounding.
struct ErrorBounds {
  double loss;      // × Σ|terms| of the loss's formula
  double gradient;  // × the gradient scale of kernels/loss.h
  double tiny;      // absolute: where relative accuracy ends
};

constexpr ErrorBounds BoundsFor(DType prediction) {
  if (prediction == DType::kF64) return {1e-13, 1e-13, 1e-290};
  return {1e-6, 4e-7, 1e-35};
}

// The oracle's answer, an entry a row; `loss` and so on as in reference::Row.
struct Expectation {
  std::vector<reference::Row> rows;
  Tally tally;
};

// Reads the case's tensors by the definition of rows (layout/geometry.h), so it shares nothing with
// how backends walk through memory. The case must be free of bad class ids and row weights.
Expectation Expect(const ScoreCase& c);

// Half the distance between neighbours of `dtype` at `value`.
reference::Real HalfUlp(DType dtype, double value);

// Compares everything; gtest failures (a few at most) tell the differences. With `any_nonfinite`,
// NaN and infinities are all the same: for infinite labels, which only promise to be non-finite.
void ExpectMatches(const ScoreCase& c, const ScoreOutcome& outcome, bool any_nonfinite = false);

}  // namespace softloss::testing
