// Sums in fixed orders, and where a block's work lies.
#pragma once

#include <cstdint>

#include "kernels/cuda/types.h"

namespace softloss::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kMaxWarps = 32;  // of the largest block
inline constexpr unsigned kAllLanes = 0xffffffffu;

// The segment that holds leaf `leaf` of the launch.
__device__ inline const DeviceSegment& FindSegment(const DeviceSegment* segments, int count,
                                                   std::int64_t leaf) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (segments[middle].first_leaf <= leaf)
      low = middle;
    else
      high = middle - 1;
  }
  return segments[low];
}

// Adds `values` over the aligned groups of `lanes` (a power of two ≤ 32) lanes; every lane gets the
// same sums. The butterfly adds the same pairs in every lane, so the order is fixed.
template <int N>
__device__ inline void SumLanes(double (&values)[N], int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += __shfl_xor_sync(kAllLanes, values[i], offset);
  }
}

// The same over the whole block. `scratch` has N·kMaxWarps entries and is free again on return.
template <int N>
__device__ inline void SumBlock(double (&values)[N], double* scratch) {
  SumLanes(values, kWarp);
  const int warps = blockDim.x / kWarp;
  if (threadIdx.x % kWarp == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) scratch[i * kMaxWarps + threadIdx.x / kWarp] = values[i];
  }
  __syncthreads();
  // Every warp adds the warps' sums for itself, which saves a second exchange.
  const int lane = threadIdx.x % kMaxWarps;
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = lane < warps ? scratch[i * kMaxWarps + lane] : 0.0;
  SumLanes(values, kMaxWarps);
  __syncthreads();
}

// A thread's share of the conditions, in the order of Counters' first five members.
struct Conditions {
  int nonfinite_predictions = 0;
  int nonfinite_labels = 0;
  int nonfinite_losses = 0;
  int unnormalized_labels = 0;
  int out_of_range_labels = 0;
};

__device__ inline void AddOne(int count, unsigned long long* total) {
  const int sum = __reduce_add_sync(kAllLanes, count);
  if (sum != 0 && threadIdx.x % kWarp == 0) {
    atomicAdd(total, static_cast<unsigned long long>(sum));
  }
}

// Called by whole warps. Clean inputs cost one vote.
__device__ inline void AddConditions(const Conditions& c, Counters* counters) {
  const int any = c.nonfinite_predictions | c.nonfinite_labels | c.nonfinite_losses |
                  c.unnormalized_labels | c.out_of_range_labels;
  if (!__any_sync(kAllLanes, any != 0)) return;
  AddOne(c.nonfinite_predictions, &counters->nonfinite_predictions);
  AddOne(c.nonfinite_labels, &counters->nonfinite_labels);
  AddOne(c.nonfinite_losses, &counters->nonfinite_losses);
  AddOne(c.unnormalized_labels, &counters->unnormalized_labels);
  AddOne(c.out_of_range_labels, &counters->out_of_range_labels);
}

__device__ inline void ReportBadRow(std::int64_t row, unsigned long long* largest) {
  atomicMax(largest, ~static_cast<unsigned long long>(row));
}

}  // namespace softloss::cuda
