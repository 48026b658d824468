// What kernels use of the language and its built-in functions. Included before every CUDA source, as the
// CUDA compiler does with its own.
//
// Arithmetic is IEEE fp32 and fp64, with functions correctly rounded or nearly so: approximate ones of the
// device are not imitated.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "tests/kernels/cuda_emulation/grid.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)

using std::max;
using std::min;

struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __int_as_float(int i) { return std::bit_cast<float>(i); }
inline float __uint_as_float(unsigned i) { return std::bit_cast<float>(i); }
inline int __float_as_int(float f) { return std::bit_cast<int>(f); }
inline unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
inline double __longlong_as_double(long long i) { return std::bit_cast<double>(i); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
inline int __ffs(unsigned v) { return v == 0 ? 0 : std::countr_zero(v) + 1; }
inline int __popc(unsigned v) { return std::popcount(v); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  unsigned out = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned from = (selector >> (4 * i)) & 7;
    out |= static_cast<unsigned>(bytes >> (8 * from) & 0xff) << (8 * i);
  }
  return out;
}

// Vector accesses trap where the address is not a multiple of their size.
template <typename T>
inline void CheckAligned(const T* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % sizeof(T) != 0) {
    cuda_emulation::Fail("an access at an address that is not a multiple of its size");
  }
}
template <typename T>
inline T __ldcs(const T* p) {
  CheckAligned(p);
  return *p;
}
template <typename T>
inline T __ldg(const T* p) {
  CheckAligned(p);
  return *p;
}
template <typename T>
inline void __stcs(T* p, std::type_identity_t<T> value) {
  CheckAligned(p);
  *p = value;
}

template <typename T>
inline T atomicAdd(T* p, std::type_identity_t<T> value) {
  const T old = *p;
  *p += value;
  return old;
}
template <typename T>
inline T atomicMax(T* p, std::type_identity_t<T> value) {
  const T old = *p;
  *p = std::max(old, value);
  return old;
}

#define SOFTLOSS_HERE const std::source_location& where = std::source_location::current()

inline void __syncthreads(SOFTLOSS_HERE) {
  cuda_emulation::Meet(cuda_emulation::Meeting::kBlock, where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SOFTLOSS_HERE) {
  if (mask != 0xffffffffu) cuda_emulation::Fail("only whole warps are emulated");
  cuda_emulation::Meet(cuda_emulation::Meeting::kWarp, where);
}

namespace cuda_emulation {

template <typename T>
const std::uint64_t* ExchangeAll(unsigned mask, T value, const std::source_location& where) {
  static_assert(sizeof(T) <= 8);
  if (mask != 0xffffffffu) Fail("only whole warps are emulated");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return Exchange(bits, where);
}
template <typename T>
T ValueOf(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_emulation

template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int offset, SOFTLOSS_HERE) {
  const std::uint64_t* all = cuda_emulation::ExchangeAll(mask, value, where);
  return cuda_emulation::ValueOf<T>(all[(threadIdx.x ^ static_cast<unsigned>(offset)) % 32]);
}
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, SOFTLOSS_HERE) {
  const std::uint64_t* all = cuda_emulation::ExchangeAll(mask, value, where);
  return cuda_emulation::ValueOf<T>(all[static_cast<unsigned>(lane) % 32]);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, SOFTLOSS_HERE) {
  const std::uint64_t* all = cuda_emulation::ExchangeAll(mask, vote, where);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) votes |= static_cast<unsigned>(all[lane] != 0) << lane;
  return votes;
}
inline bool __any_sync(unsigned mask, bool vote, SOFTLOSS_HERE) {
  return __ballot_sync(mask, vote, where) != 0;
}
inline bool __all_sync(unsigned mask, bool vote, SOFTLOSS_HERE) {
  return __ballot_sync(mask, vote, where) == 0xffffffffu;
}
inline int __reduce_add_sync(unsigned mask, int value, SOFTLOSS_HERE) {
  const std::uint64_t* all = cuda_emulation::ExchangeAll(mask, value, where);
  int sum = 0;
  for (unsigned lane = 0; lane < 32; ++lane) sum += cuda_emulation::ValueOf<int>(all[lane]);
  return sum;
}
