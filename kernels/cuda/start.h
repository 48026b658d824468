// Launching a kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace softloss::cuda {

struct Shape {
  std::int64_t blocks;
  int threads;
  int shared_bytes;
  int cluster;  // blocks of a cluster; 1 for none
};

template <typename Kernel, typename... Arguments>
cudaError_t Start(Kernel kernel, const Shape& shape, cudaStream_t stream,
                  const Arguments&... arguments) {
  cudaError_t error = cudaSuccess;
  constexpr int kUsual = 4 << 10;
  if (shape.shared_bytes > kUsual) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 shape.shared_bytes);
    if (error != cudaSuccess) return error;
    // As many blocks as fit: nothing here profits from a larger L1 cache.
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
    if (error != cudaSuccess) return error;
  }
  constexpr int kPortableCluster = 8;
  if (shape.cluster > kPortableCluster) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  error = cudaLaunchKernelEx(&config, kernel, arguments...);
  const cudaError_t last = cudaGetLastError();
  return error != cudaSuccess ? error : last;
}

}  // namespace softloss::cuda
