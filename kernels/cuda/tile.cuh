// Runs of elements between global and shared memory, 16 bytes at a time whatever their alignment.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

namespace softloss::cuda {

inline constexpr std::int64_t kChunk = 16;  // bytes an access

// Bytes of shared memory that hold a run of `bytes` at any alignment.
__host__ __device__ constexpr std::int64_t RunBytes(std::int64_t bytes) {
  return (bytes + 2 * kChunk - 1) / kChunk * kChunk;
}

// How far into its shared buffer a run that starts at `global` lies.
__device__ inline int Shift(const void* global) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(global) % kChunk);
}

// Starts copying `bytes` from `global` to `shared + Shift(global)`, by the whole block. Reads whole
// chunks, so up to 15 bytes around the run. Complete after __pipeline_wait_prior and a barrier.
__device__ inline void LoadRun(const void* global, int bytes, std::byte* shared) {
  const int shift = Shift(global);
  const std::byte* source = static_cast<const std::byte*>(global) - shift;
  const int end = shift + bytes;
  for (int i = threadIdx.x * kChunk; i < end; i += blockDim.x * kChunk) {
    __pipeline_memcpy_async(shared + i, source + i, kChunk);
  }
}

// Copies `bytes` from `shared + Shift(global)` to `global`, and nothing around it.
__device__ inline void StoreRun(const std::byte* shared, int bytes, void* global) {
  const int shift = Shift(global);
  std::byte* target = static_cast<std::byte*>(global) - shift;
  const int end = shift + bytes;
  for (int i = threadIdx.x * kChunk; i < end; i += blockDim.x * kChunk) {
    if (i >= shift && i + kChunk <= end) {
      __stcs(reinterpret_cast<int4*>(target + i), *reinterpret_cast<const int4*>(shared + i));
    } else {
      const int last = min(i + static_cast<int>(kChunk), end);
      for (int b = max(i, shift); b < last; ++b) target[b] = shared[b];
    }
  }
}

// Moves lines of a tile, `width` elements of `size` bytes each: line c at global + c·global_stride and
// shared + c·shared_stride (bytes; the shared one a multiple of kChunk).
__device__ inline void LoadLines(const std::byte* global, std::int64_t global_stride, int lines,
                                 int width, int size, std::byte* shared, int shared_stride) {
  const int bytes = width * size;
  const bool aligned = Shift(global) == 0 && global_stride % kChunk == 0;
  const int unit = aligned ? static_cast<int>(kChunk) : size;
  const int per_line = (bytes + unit - 1) / unit;
  for (int i = threadIdx.x; i < lines * per_line; i += blockDim.x) {
    const int line = i / per_line;
    const int at = (i - line * per_line) * unit;
    const std::byte* source = global + line * global_stride + at;
    std::byte* target = shared + line * shared_stride + at;
    switch (unit) {
      case 16: __pipeline_memcpy_async(target, source, 16); break;
      case 8: __pipeline_memcpy_async(target, source, 8); break;
      case 4: __pipeline_memcpy_async(target, source, 4); break;
      case 2:
        *reinterpret_cast<std::uint16_t*>(target) = *reinterpret_cast<const std::uint16_t*>(source);
        break;
      default: *target = *source;
    }
  }
}

__device__ inline void StoreLines(const std::byte* shared, int shared_stride, int lines, int width,
                                  int size, std::byte* global, std::int64_t global_stride) {
  const int bytes = width * size;
  const bool aligned = Shift(global) == 0 && global_stride % kChunk == 0 && bytes % kChunk == 0;
  const int unit = aligned ? static_cast<int>(kChunk) : size;
  const int per_line = bytes / unit;
  for (int i = threadIdx.x; i < lines * per_line; i += blockDim.x) {
    const int line = i / per_line;
    const int at = (i - line * per_line) * unit;
    const std::byte* source = shared + line * shared_stride + at;
    std::byte* target = global + line * global_stride + at;
    switch (unit) {
      case 16:
        __stcs(reinterpret_cast<int4*>(target), *reinterpret_cast<const int4*>(source));
        break;
      case 8:
        *reinterpret_cast<std::uint64_t*>(target) = *reinterpret_cast<const std::uint64_t*>(source);
        break;
      case 4:
        *reinterpret_cast<std::uint32_t*>(target) = *reinterpret_cast<const std::uint32_t*>(source);
        break;
      default:
        *reinterpret_cast<std::uint16_t*>(target) = *reinterpret_cast<const std::uint16_t*>(source);
    }
  }
}

}  // namespace softloss::cuda
