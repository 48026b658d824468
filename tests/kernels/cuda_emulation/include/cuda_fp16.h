#pragma once

#include <cstdint>

#include "kernels/half.h"

struct __half {
  std::uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __half2float(__half h) { return softloss::F16ToFloat(h.bits); }
inline __half __float2half_rn(float f) { return {softloss::FloatToF16(f)}; }
inline __half __double2half(double d) { return {softloss::ToF16(d)}; }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
