// Elements in and out of memory, and the few functions whose rounding the error bounds rest on.
//
// Built with -fmad=false: a multiply and an add are fused only where this code says Fma.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "layout/dtype.h"

namespace softloss::cuda {

// Instead of a DType in a template argument: decided at run time, by a uniform branch.
inline constexpr DType kAnyDType = static_cast<DType>(0);

__device__ inline float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double Fma(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ inline float Exp(float x) { return expf(x); }
__device__ inline double Exp(double x) { return exp(x); }

// e^(x - m), where `difference` is x - m rounded. At x - m = -60 that rounding alone moves an fp32
// result by 2e-6, so what it lost is put back: e^(d + r) = e^d·(1 + r).
__device__ inline float ExpOfDifference(float x, float m, float difference) {
  const float e = expf(difference);
  const float back = difference - x;  // Knuth's two-sum of x and -m
  const float rest = (x - (difference - back)) - (m + back);
  return e == 0 ? e : __fmaf_rn(e, rest, e);  // zero for x = -∞, where rest is NaN
}
__device__ inline double ExpOfDifference(double, double, double difference) {
  return exp(difference);
}
__device__ inline float Log1p(float x) { return log1pf(x); }
__device__ inline double Log1p(double x) { return log1p(x); }
__device__ inline float Abs(float x) { return fabsf(x); }
__device__ inline double Abs(double x) { return fabs(x); }
// 1 / x for x in [1, 2].
__device__ inline float Reciprocal(float x) { return __fdividef(1.0f, x); }
__device__ inline double Reciprocal(double x) { return 1.0 / x; }

template <typename Real>
__device__ inline Real Nan() {
  if constexpr (std::is_same_v<Real, float>)
    return __int_as_float(0x7fc00000);
  else
    return __longlong_as_double(0x7ff8000000000000LL);
}
template <typename Real>
__device__ inline Real Infinity() {
  if constexpr (std::is_same_v<Real, float>)
    return __int_as_float(0x7f800000);
  else
    return __longlong_as_double(0x7ff0000000000000LL);
}
__device__ inline bool IsFinite(float x) { return Abs(x) < Infinity<float>(); }
__device__ inline bool IsFinite(double x) { return Abs(x) < Infinity<double>(); }

// The larger, or NaN if either is.
__device__ inline float MaxNan(float a, float b) {
#ifdef __CUDA_ARCH__
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
#else
  return a != a || b != b ? Nan<float>() : fmaxf(a, b);
#endif
}
__device__ inline double MaxNan(double a, double b) { return (b > a || b != b) ? b : a; }

// u / 255, correctly rounded: one step of remainder correction gives so for all 256.
__device__ inline float Over255(float u) {
  constexpr float kInverse = 1.0f / 255.0f;
  const float q = __fmul_rn(u, kInverse);
  return Fma(Fma(-q, 255.0f, u), kInverse, q);
}
__device__ inline double Over255(double u) { return u / 255.0; }

// Element i of an array of D, or of `dtype` if D is kAnyDType.
template <typename Real, DType D>
__device__ inline Real Load(const void* p, std::int64_t i, DType dtype) {
  switch (D == kAnyDType ? dtype : D) {
    case DType::kF32: return static_cast<const float*>(p)[i];
    case DType::kF16: return __half2float(static_cast<const __half*>(p)[i]);
    case DType::kBF16: return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
    case DType::kF64: return static_cast<Real>(static_cast<const double*>(p)[i]);
    case DType::kU8: return static_cast<Real>(static_cast<const std::uint8_t*>(p)[i]);
    default: return 0;
  }
}

__device__ inline std::int64_t LoadId(const void* p, std::int64_t i, DType dtype) {
  return dtype == DType::kI32 ? static_cast<const std::int32_t*>(p)[i]
                              : static_cast<const std::int64_t*>(p)[i];
}

// One rounding, to nearest even, from the computing type.
template <typename Real, DType D>
__device__ inline void Store(void* p, std::int64_t i, DType dtype, Real value) {
  switch (D == kAnyDType ? dtype : D) {
    case DType::kF32: static_cast<float*>(p)[i] = static_cast<float>(value); break;
    case DType::kF16:
      if constexpr (std::is_same_v<Real, float>)
        static_cast<__half*>(p)[i] = __float2half_rn(value);
      else
        static_cast<__half*>(p)[i] = __double2half(value);
      break;
    case DType::kBF16:
      if constexpr (std::is_same_v<Real, float>) {
        static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(value);
      } else {
        static_cast<__nv_bfloat16*>(p)[i] = __double2bfloat16(value);
      }
      break;
    case DType::kF64: static_cast<double*>(p)[i] = value; break;
    default: break;
  }
}

// Decodes a dense label as the plan says; `raw` is what Load gave.
template <typename Real>
__device__ inline Real DecodeLabel(Real raw, bool over_255) {
  return over_255 ? Over255(raw) : raw;
}

// A decoded label that equals the ignore value; NaN equals NaN.
template <typename Real>
__device__ inline bool IsIgnored(Real label, double ignore_value) {
  const double t = label;
  return t == ignore_value || (t != t && ignore_value != ignore_value);
}

template <DType P, DType L, DType G, typename R>
struct Types {
  static constexpr DType kPrediction = P;
  static constexpr DType kLabel = L;
  static constexpr DType kGradient = G;
  using Real = R;
};

}  // namespace softloss::cuda
