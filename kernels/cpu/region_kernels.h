// What the scorer of regional losses asks of its kernels. A loss itself is a few numbers a region
// (reference::ScoreRegion); here are the sums that it is of, and the gradient from its slopes.
#pragma once

#include <cstddef>

#include "kernels/loss.h"

namespace softloss::cpu {

// Positions side by side in SIMD lanes, the classes that exist in columns.
template <typename T>
struct RegionBlock {
  std::size_t classes = 0;
  std::size_t positions = 0;  // rounded up to a multiple of kRowQuantum
  // More than that, so that the columns at a position are not all in one set of a cache.
  std::size_t stride = 0;
  T* x = nullptr;                 // [classes][stride], aligned, as `t`
  T* t = nullptr;                 // may be overwritten
  const T* row_weight = nullptr;  // [positions]: < 0 does not count; 0 counts, but is not looked at
  T* unusual = nullptr;           // [positions]
  T smoothing = 0;                // of sigmoids; softmax's labels are smoothed already
  const T* ignore = nullptr;      // of sigmoids: elements whose label is this do not count
  const LossSpec* spec = nullptr;
};

// A part of a region, over the positions that are looked at (kernels/loss.h).
struct RegionSums {
  double both = 0, over = 0, under = 0;
  double count = 0;  // elements that count

  RegionSums& operator+=(const RegionSums& o) {
    both += o.both;
    over += o.over;
    under += o.under;
    count += o.count;
    return *this;
  }
};

// ∂loss/∂s where s > t, s < t and s = t, with the class weight.
template <typename T>
struct RegionSlopes {
  T above = 0, below = 0, level = 0;
};

template <typename T>
struct RegionKernels {
  // Of classes that exclude each other; else null. Makes x predictions, which the others then take. Sets
  // `unusual` to 1 for positions whose predictions are then unspecified: with logits of kExactLogit or
  // more, or NaN, or probabilities outside [0, 1]. True if there is one. NaN stands for what cannot be
  // scored.
  bool (*predict)(const RegionBlock<T>& block) = nullptr;
  // Adds the block to sums [classes]. True if an element that is looked at is NaN, infinite or out of
  // range; for classes that exclude each other it says nothing.
  bool (*sums)(const RegionBlock<T>& block, RegionSums* sums) = nullptr;
  // x becomes the gradient, 0 for what is not looked at. Returns its sum of squares.
  double (*gradient)(const RegionBlock<T>& block, const RegionSlopes<T>* slopes) = nullptr;
};

template <typename T>
RegionKernels<T> FindRegionKernels(Activation activation, PredictionKind kind);

}  // namespace softloss::cpu
