// Several elements that lie together, in one access.
#pragma once

#include <cstdint>

#include "kernels/cuda/numeric.cuh"

namespace softloss::cuda {

// Elements of `dtype` in 16 bytes: what a thread takes at once.
constexpr int PerVector(DType dtype) { return 16 / static_cast<int>(SizeOf(dtype)); }

// kBytes (4, 8 or 16) as they lie in memory.
template <int kBytes>
struct alignas(kBytes) Packed {
  std::uint32_t word[kBytes / 4];
};

// From global memory, for reading once. `p` is a multiple of kBytes.
template <int kBytes>
__device__ inline Packed<kBytes> LoadPacked(const void* p) {
  Packed<kBytes> out;
  if constexpr (kBytes == 16) {
    const uint4 v = __ldcs(static_cast<const uint4*>(p));
    out.word[0] = v.x;
    out.word[1] = v.y;
    out.word[2] = v.z;
    out.word[3] = v.w;
  } else if constexpr (kBytes == 8) {
    const uint2 v = __ldcs(static_cast<const uint2*>(p));
    out.word[0] = v.x;
    out.word[1] = v.y;
  } else {
    static_assert(kBytes == 4);
    out.word[0] = __ldcs(static_cast<const std::uint32_t*>(p));
  }
  return out;
}

// To global memory, for writing once.
template <int kBytes>
__device__ inline void StorePacked(void* p, const Packed<kBytes>& v) {
  if constexpr (kBytes == 16) {
    __stcs(static_cast<uint4*>(p), make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]));
  } else if constexpr (kBytes == 8) {
    __stcs(static_cast<uint2*>(p), make_uint2(v.word[0], v.word[1]));
  } else {
    static_assert(kBytes == 4);
    __stcs(static_cast<std::uint32_t*>(p), v.word[0]);
  }
}

// The elements of D in `packed`, as floats to out[0 … elements).
template <DType D, int kBytes>
__device__ inline void Unpack(const Packed<kBytes>& packed, float* out) {
#pragma unroll
  for (int i = 0; i < kBytes / 4; ++i) {
    const std::uint32_t word = packed.word[i];
    if constexpr (D == DType::kF32) {
      out[i] = __uint_as_float(word);
    } else if constexpr (D == DType::kBF16) {
      out[2 * i] = __uint_as_float(word << 16);
      out[2 * i + 1] = __uint_as_float(word & 0xffff0000u);
    } else if constexpr (D == DType::kF16) {
      const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&word));
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    } else {
      static_assert(D == DType::kU8);
#pragma unroll
      for (int b = 0; b < 4; ++b) {  // 2^23 + byte, less 2^23
        out[4 * i + b] = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7650 + b)) - 8388608.0f;
      }
    }
  }
}

// One rounding to D, to nearest even.
template <DType D, int kBytes>
__device__ inline Packed<kBytes> Pack(const float* v) {
  Packed<kBytes> out;
#pragma unroll
  for (int i = 0; i < kBytes / 4; ++i) {
    if constexpr (D == DType::kF32) {
      out.word[i] = __float_as_uint(v[i]);
    } else if constexpr (D == DType::kBF16) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
      out.word[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    } else {
      static_assert(D == DType::kF16);
      const __half2 pair = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
      out.word[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
  }
  return out;
}

// Loads V elements of D from `p`: at once if it is a multiple of their size.
template <DType D, int V>
__device__ inline void LoadVector(const void* p, bool aligned, float* out) {
  constexpr int kSize = kSizeOf<D>;
  constexpr int kBytes = kSize * V < 16 ? kSize * V : 16;
  constexpr int kPer = kBytes / kSize;
  const auto* bytes = static_cast<const std::byte*>(p);
  if (aligned) {
#pragma unroll
    for (int i = 0; i < V / kPer; ++i) {
      Unpack<D, kBytes>(LoadPacked<kBytes>(bytes + i * kBytes), out + i * kPer);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = Load<float, D>(p, i, D);
  }
}

// Stores V elements, rounded to D, to `p`, which is a multiple of their size.
template <DType D, int V>
__device__ inline void StoreVector(void* p, const float* v) {
  constexpr int kSize = kSizeOf<D>;
  constexpr int kBytes = kSize * V < 16 ? kSize * V : 16;
  constexpr int kPer = kBytes / kSize;
#pragma unroll
  for (int i = 0; i < V / kPer; ++i) {
    StorePacked(static_cast<std::byte*>(p) + i * kBytes, Pack<D, kBytes>(v + i * kPer));
  }
}

}  // namespace softloss::cuda
