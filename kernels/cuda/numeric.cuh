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

// SizeOf, for device code.
template <DType D>
inline constexpr int kSizeOf = static_cast<int>(SizeOf(D));

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
// 2^x for |x| ≤ 1, to 2^-22 of itself.
__device__ inline float Exp2(float x) {
#ifdef __CUDA_ARCH__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return exp2f(x);
#endif
}

// e^(x - m) for one finite m and many x ≤ m, as 2^(x·log2 e - whole - fraction) with m·log2 e split once:
// the part of x·log2 e behind the point comes out of one fused multiply-add, so that, other than in
// x - m, no digit of x is lost however far below m it is.
template <typename Real>
class RowExp;

template <>
class RowExp<float> {
 public:
  static constexpr float kMax = 0x1p21f;  // of |m|

  __device__ explicit RowExp(float m) {
    const float whole = rintf(m * kHigh);
    // Added to it, a number's nearest integer n shows in the low bits: those of 2^(n - whole), shifted.
    magic_ = kShift + 127.0f - whole;
    fraction_ = Fma(m, kLow, Fma(m, kHigh, -whole));
  }

  // 0 for x = -∞; NaN for NaN.
  __device__ float operator()(float x) const {
    const float shifted = fmaxf(Fma(x, kHigh, magic_), kShift + 1.0f);
    const float n = shifted - magic_;
    const float behind = Fma(x, kHigh, -n) + Fma(x, kLow, -fraction_);
    return Exp2(behind) * __int_as_float(__float_as_int(shifted) << 23);
  }

 private:
  static constexpr float kHigh = 1.44269502f;  // log2 e, and what is left of it
  static constexpr float kLow = 1.925963e-8f;
  static constexpr float kShift = 12582912.0f;  // 1.5·2^23

  float magic_;
  float fraction_;
};

template <>
class RowExp<double> {
 public:
  static constexpr double kMax = 1.7e308;  // any
  __device__ explicit RowExp(double m) : m_(m) {}
  __device__ double operator()(double x) const { return exp(x - m_); }

 private:
  double m_;
};

__device__ inline float Log1p(float x) { return log1pf(x); }
__device__ inline double Log1p(double x) { return log1p(x); }
__device__ inline float Abs(float x) { return fabsf(x); }
__device__ inline double Abs(double x) { return fabs(x); }
// x / d for d in [1, 2^31], to two ulp in fp32.
__device__ inline float Divide(float x, float d) { return __fdividef(x, d); }
__device__ inline double Divide(double x, double d) { return x / d; }
// log1p(x) for x in [0, 1] as 2·artanh(x / (2 + x)), by its series: no branches, and relative to 4e-7.
__device__ inline float Log1pOfUnit(float x) {
  const float s = __fdividef(x, 2.0f + x);
  const float z = s * s;
  float sum = Fma(z, 1.0f / 15, 1.0f / 13);
  sum = Fma(z, sum, 1.0f / 11);
  sum = Fma(z, sum, 1.0f / 9);
  sum = Fma(z, sum, 1.0f / 7);
  sum = Fma(z, sum, 1.0f / 5);
  sum = Fma(z, sum, 1.0f / 3);
  const float twice = 2 * s;
  return Fma(twice * z, sum, twice);
}
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

// Whether x is in [0, 1]; may be false for -0.
__device__ inline bool InUnitInterval(float x) { return __float_as_uint(x) <= 0x3f800000u; }
__device__ inline bool InUnitInterval(double x) { return x >= 0 && x <= 1; }

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
