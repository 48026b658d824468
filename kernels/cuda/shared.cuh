// A block's shared memory: what a launch asked for, and nothing else, so that its layout is known.
#pragma once

#include <cstddef>

namespace softloss::cuda {

#ifdef SOFTLOSS_CUDA_EMULATION
inline std::byte* BlockMemory() { return cuda_emulation::SharedMemory(); }
#else
extern __shared__ int4 block_memory[];
__device__ inline std::byte* BlockMemory() { return reinterpret_cast<std::byte*>(block_memory); }
#endif

// A T at its beginning, whose size is a multiple of 16; what follows it.
template <class T>
__device__ inline T* SharedState() {
  static_assert(sizeof(T) % 16 == 0);
  return reinterpret_cast<T*>(BlockMemory());
}
template <class T>
__device__ inline std::byte* SharedAfter() {
  return BlockMemory() + sizeof(T);
}

}  // namespace softloss::cuda
