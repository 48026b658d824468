#include "kernels/cuda/launch.h"

#include <utility>

namespace softloss::cuda {

cudaError_t QueryLimits(int device, DeviceLimits* limits) {
  int major = 0;
  int minor = 0;
  int shared = 0;
  for (const auto& [attribute, value] :
       {std::pair{cudaDevAttrComputeCapabilityMajor, &major},
        std::pair{cudaDevAttrComputeCapabilityMinor, &minor},
        std::pair{cudaDevAttrMaxSharedMemoryPerBlockOptin, &shared}}) {
    if (cudaError_t error = cudaDeviceGetAttribute(value, attribute, device)) return error;
  }
  // Kernels have a few KiB of static shared memory besides.
  constexpr int kStatic = 4 << 10;
  limits->compute_capability = 10 * major + minor;
  limits->shared_bytes_per_block = shared - kStatic;
  limits->max_cluster = major >= 9 ? 16 : 1;
  return cudaSuccess;
}

cudaError_t Launch(const KernelKey& key, const DeviceLimits& limits, const DeviceSegment* segments,
                   int count, std::int64_t leaves, cudaStream_t stream) {
  if (leaves == 0) return cudaSuccess;
  if (!key.general && key.loss == KernelLoss::kSigmoidCrossEntropy) {
    return LaunchSigmoid(key, segments, count, leaves, stream);
  }
  if (!key.general && key.loss == KernelLoss::kSoftmaxCrossEntropy) {
    return LaunchSoftmax(key, limits, segments, count, leaves, stream);
  }
  return IsElementwise(key.loss) ? LaunchElementLoss(key, segments, count, leaves, stream)
                                 : LaunchClassLoss(key, segments, count, leaves, stream);
}

}  // namespace softloss::cuda
