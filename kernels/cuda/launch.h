// Scores segments that are in device memory already. Free of Abseil and gRPC.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/types.h"

namespace softloss::cuda {

// What launch shapes depend on besides the key; read once from the device.
struct DeviceLimits {
  int compute_capability = 0;  // 90 = 9.0
  int shared_bytes_per_block = 0;
  int max_cluster = 1;  // blocks that may share a row
};

cudaError_t QueryLimits(int device, DeviceLimits* limits);

// Enqueues one launch over `segments[0..count)` (device memory; first_leaf ascending from 0), which
// have `leaves` leaves in all. Counters must be zero. Every other output is written.
cudaError_t Launch(const KernelKey& key, const DeviceLimits& limits, const DeviceSegment* segments,
                   int count, std::int64_t leaves, cudaStream_t stream);

// Called by Launch. Cross entropies of logits have kernels of their own.
cudaError_t LaunchSigmoid(const KernelKey& key, const DeviceSegment* segments, int count,
                          std::int64_t leaves, cudaStream_t stream);
cudaError_t LaunchSoftmax(const KernelKey& key, const DeviceLimits& limits,
                          const DeviceSegment* segments, int count, std::int64_t leaves,
                          cudaStream_t stream);

// The rest, in fp64: any loss and any option.
cudaError_t LaunchElementLoss(const KernelKey& key, const DeviceSegment* segments, int count,
                              std::int64_t leaves, cudaStream_t stream);
cudaError_t LaunchClassLoss(const KernelKey& key, const DeviceSegment* segments, int count,
                            std::int64_t leaves, cudaStream_t stream);

}  // namespace softloss::cuda
