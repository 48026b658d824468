// Sigmoid cross entropy of a run of elements (formulas: kernels/loss.h).
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/backend.h"

namespace softloss::cpu {

// Weights that are none: an element of a masked row, which counts for nothing, and one of a row whose
// weight is 0, which is valid but is not looked at. (A class weight of 0 is a plain 0.)
inline constexpr int kMaskedWeight = -1;
inline constexpr int kZeroRowWeight = -2;

template <typename T>
struct SigmoidRun {
  std::size_t n = 0;
  const T* x = nullptr;
  const T* t = nullptr;
  // [n] or null = 1 each: row weight × class weight, or one of the codes below.
  const T* weight = nullptr;
  const T* pos_weight = nullptr;  // [n] or null = 1 each
  T smoothing = 0;
  std::optional<T> ignore;

  T* gradient = nullptr;  // [n] or null
  T* loss = nullptr;      // [n] or null
};

// Adds to a leaf's sums and the tally. `sum.weight` gets Σ weight over valid elements. The order of
// summing depends on n alone. Pointers may be unaligned; outputs must not overlap inputs.
void ScoreSigmoid(const SigmoidRun<float>& run, LeafSum& sum, Tally& tally);
void ScoreSigmoid(const SigmoidRun<double>& run, LeafSum& sum, Tally& tally);

}  // namespace softloss::cpu
