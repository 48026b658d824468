#include <malloc.h>

#include <cstdlib>
#include <new>

#include "softloss/client.h"

namespace softloss {

Buffer::Buffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  constexpr std::size_t kAlignment = 64;
  const std::size_t padded = (size + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(std::aligned_alloc(kAlignment, padded));
  if (data_ == nullptr) throw std::bad_alloc();
}

void* Buffer::Release() {
  size_ = 0;
  return data_.release();
}

void Buffer::Free::operator()(void* p) const { std::free(p); }

void PinMallocThresholds() {
#ifdef __GLIBC__
  // Setting one alone switches the other's adaptation off at its small default.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the largest value that glibc takes
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

}  // namespace softloss
