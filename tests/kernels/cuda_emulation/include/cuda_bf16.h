#pragma once

#include <cstdint>

#include "kernels/half.h"

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 h) { return softloss::BF16ToFloat(h.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return {softloss::FloatToBF16(f)}; }
inline __nv_bfloat16 __double2bfloat16(double d) { return {softloss::ToBF16(d)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
