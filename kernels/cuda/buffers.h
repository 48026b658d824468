// Memory that only grows: a batch reuses what the largest before it needed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "absl/status/status.h"

namespace softloss::cuda {

// RESOURCE_EXHAUSTED for memory, INTERNAL for everything else, in the runtime's words; OK for success.
// `what` says what was being done.
absl::Status ToStatus(cudaError_t error, const char* what);

enum class MemoryKind { kDevice, kPinned };

template <MemoryKind kKind>
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { Free(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Afterwards data() has at least `size` bytes, of unspecified contents. Nothing may be using the
  // old ones. On failure the buffer is empty.
  absl::Status Reserve(std::size_t size);
  std::byte* data() const { return data_; }
  void Free();

 private:
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
};

using DeviceBuffer = Buffer<MemoryKind::kDevice>;
using PinnedBuffer = Buffer<MemoryKind::kPinned>;

}  // namespace softloss::cuda
