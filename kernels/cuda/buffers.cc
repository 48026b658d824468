#include "kernels/cuda/buffers.h"

#include "absl/strings/str_cat.h"

namespace softloss::cuda {

absl::Status ToStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat("cuda: ", what, ": ", cudaGetErrorString(error), " (",
                                           cudaGetErrorName(error), ")");
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(message)
                                            : absl::InternalError(message);
}

template <MemoryKind kKind>
absl::Status Buffer<kKind>::Reserve(std::size_t size) {
  if (size <= capacity_) return absl::OkStatus();
  Free();
  // Steps of an eighth, so that slowly growing batches do not reallocate every time.
  const std::size_t capacity = (size + size / 8 + 4095) / 4096 * 4096;
  void* data = nullptr;
  const cudaError_t error = kKind == MemoryKind::kDevice
                                ? cudaMalloc(&data, capacity)
                                : cudaHostAlloc(&data, capacity, cudaHostAllocDefault);
  if (error != cudaSuccess) {
    cudaGetLastError();  // a failed allocation is not sticky
    return ToStatus(error, kKind == MemoryKind::kDevice ? "device memory" : "pinned memory");
  }
  data_ = static_cast<std::byte*>(data);
  capacity_ = capacity;
  return absl::OkStatus();
}

template <MemoryKind kKind>
void Buffer<kKind>::Free() {
  if (data_ == nullptr) return;
  if constexpr (kKind == MemoryKind::kDevice)
    cudaFree(data_);
  else
    cudaFreeHost(data_);
  data_ = nullptr;
  capacity_ = 0;
}

template class Buffer<MemoryKind::kDevice>;
template class Buffer<MemoryKind::kPinned>;

}  // namespace softloss::cuda
