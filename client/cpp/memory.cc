#include <malloc.h>

#include <cstdlib>
#include <new>

#include "client/cpp/memory_share.h"
#include "softloss/client.h"

namespace softloss {

Buffer::Buffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  constexpr std::size_t kAlignment = 64;
  const std::size_t padded = (size + kAlignment - 1) / kAlignment * kAlignment;
  void* const memory = std::aligned_alloc(kAlignment, padded);
  if (memory == nullptr) throw std::bad_alloc();
  data_ = std::shared_ptr<void>(memory, std::free);
}

void* SharedMemory::data() const { return region_ == nullptr ? nullptr : region_->data(); }

absl::Status SharedMemory::status() const {
  return region_ == nullptr ? absl::FailedPreconditionError("no memory was allocated")
                            : region_->status();
}

void PinMallocThresholds() {
#ifdef __GLIBC__
  // Setting one alone switches the other's adaptation off at its small default.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the largest value that glibc takes
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

}  // namespace softloss
