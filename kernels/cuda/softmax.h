// The regimes of losses over classes: which one a key takes, and the launches of each.
#pragma once

#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/row.cuh"
#include "kernels/cuda/start.h"

namespace softloss::cuda {

// Parameters that follow from the key; those of a regime are its own to set.
Params MakeParams(const KernelKey& key, const DeviceSegment* segments, int count,
                  std::int64_t leaves);

// Whether a key's rows fit a regime, and what starts it. Rows take any.
cudaError_t LaunchRows(const KernelKey& key, const DeviceLimits& limits, Params p,
                       cudaStream_t stream);
bool FitsRuns(const KernelKey& key);
cudaError_t LaunchRuns(const KernelKey& key, Params p, cudaStream_t stream);
bool FitsPlanes(const KernelKey& key);
cudaError_t LaunchPlanes(const KernelKey& key, Params p, cudaStream_t stream);

constexpr std::int64_t RoundUp(std::int64_t n, std::int64_t step) {
  return (n + step - 1) / step * step;
}
constexpr std::int64_t CeilDiv(std::int64_t n, std::int64_t step) { return (n + step - 1) / step; }
constexpr int PowerOfTwoAtLeast(std::int64_t n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

// Prediction, dense labels and gradient all of one type.
inline bool Uniform(const KernelKey& key) {
  return !key.class_ids && key.label == key.prediction &&
         (!key.has_gradient || key.gradient == key.prediction);
}

}  // namespace softloss::cuda
