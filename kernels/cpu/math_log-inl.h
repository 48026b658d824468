// ln, pow and exponentials of two-part numbers for the kernels, a copy a SIMD target.
//
// Results are accurate to about 2 units in the last place, where nothing else is said, and where
// they are normal numbers. Arguments outside the documented ranges give unspecified values, never a
// trap: callers mask or repair such lanes.
#if defined(SOFTLOSS_KERNELS_CPU_MATH_LOG_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_MATH_LOG_INL_H_
#undef SOFTLOSS_KERNELS_CPU_MATH_LOG_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_MATH_LOG_INL_H_
#endif

#include <limits>

#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Exponentials below this are taken for 0: about the smallest normal number.
template <typename T>
inline constexpr T kExpFloor = sizeof(T) == 4 ? T(-87) : T(-708);

// high + low, where low is what rounding took from high.
template <class V>
struct Pair {
  V high, low;
};

// What rounding took from `product` = a·b.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V ProductError(D d, V a, V b, V product) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulSub(a, b, product);
#else
  // The halves of the factors have exact products.
  using U = hwy::MakeUnsigned<T>;
  const hn::RebindToUnsigned<D> du;
  const auto upper = hn::Set(du, static_cast<U>(~U{0} << (sizeof(T) == 4 ? 12 : 27)));
  const V a_high = hn::BitCast(d, hn::And(hn::BitCast(du, a), upper));
  const V b_high = hn::BitCast(d, hn::And(hn::BitCast(du, b), upper));
  const V a_low = hn::Sub(a, a_high), b_low = hn::Sub(b, b_high);
  V error = hn::Sub(hn::Mul(a_high, b_high), product);
  error = hn::Add(hn::Add(error, hn::Mul(a_high, b_low)), hn::Mul(a_low, b_high));
  return hn::Add(error, hn::Mul(a_low, b_low));
#endif
}

// a - b.
template <class V>
HWY_INLINE Pair<V> Difference(V a, V b) {
  const V high = hn::Sub(a, b);
  const V minus_b = hn::Sub(high, a);
  return {high, hn::Sub(hn::Sub(a, hn::Sub(high, minus_b)), hn::Add(b, minus_b))};
}

// a·b, for factors of two parts.
template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> Product(D d, Pair<V> a, Pair<V> b) {
  const V high = hn::Mul(a.high, b.high);
  const V low = hn::MulAdd(a.high, b.low, ProductError(d, a.high, b.high, high));
  return {high, hn::MulAdd(a.low, b.high, low)};
}

// e^x for x ≤ 0, keeping the digits that x's low part stands for.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V ExpNonPositive(D d, Pair<V> x) {
  V e;
  if constexpr (sizeof(T) == 4) {
    const V magic = hn::Set(d, 12582912.0f);
    e = ExpReduced(d, x.high, hn::MulAdd(x.high, hn::Set(d, 1.44269504f), magic), magic);
  } else {
    e = hn::Exp(d, x.high);
  }
  e = hn::MulAdd(e, x.low, e);
  return hn::IfThenElseZero(hn::Ge(x.high, hn::Set(d, kExpFloor<T>)), e);
}

// fp32: v = 2^k·(1 + f), 1 + f in [√½, √2).
template <class V>
struct LogParts {
  V k, f;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE LogParts<V> SplitForLog(D d, V v) {
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(di, v);
  const auto k = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3F3504F3)));
  const V mantissa = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(k)));
  return {hn::ConvertTo(d, k), hn::Sub(mantissa, hn::Set(d, 1.0f))};
}

// fp32: ln(1 + f), 1 + f in [√½, √2): 2 atanh(w), w = f / (2 + f); minimax in w².
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LogReduced(D d, V f) {
  const V w = hn::Div(f, hn::Add(f, hn::Set(d, 2.0f)));
  const V s = hn::Mul(w, w);
  V q = hn::MulAdd(hn::Set(d, 0.233369261f), s, hn::Set(d, 0.285505831f));
  q = hn::MulAdd(q, s, hn::Set(d, 0.400001228f));
  q = hn::MulAdd(q, s, hn::Set(d, 0.666666687f));
  return hn::MulAdd(hn::Mul(w, s), q, hn::Add(w, w));
}

// ln v for positive normal v.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V LogPositive(D d, V v) {
  if constexpr (sizeof(T) == 4) {
    const LogParts<V> parts = SplitForLog(d, v);
    return hn::MulAdd(parts.k, hn::Set(d, 0.693147181f), LogReduced(d, parts.f));
  } else {
    return hn::Log(d, v);
  }
}

// The same for v of which not_v = 1 - v may have digits that v has lost, where v is close to 1.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V LogOfComplement(D d, V v, V not_v) {
  if constexpr (sizeof(T) == 4) {
    const LogParts<V> parts = SplitForLog(d, v);
    const V f = hn::IfThenElse(hn::Eq(parts.k, hn::Zero(d)), hn::Neg(not_v), parts.f);
    return hn::MulAdd(parts.k, hn::Set(d, 0.693147181f), LogReduced(d, f));
  } else {
    const V half = hn::Set(d, T(0.5));
    const V near_one = hn::Log1p(d, hn::Neg(hn::Min(not_v, half)));
    return hn::IfThenElse(hn::Gt(v, half), near_one, hn::Log(d, hn::Min(v, half)));
  }
}

// v^y for normal v > 0 or v = 0, |y| ≤ 16; 0^0 = 1, and results below the normal numbers are 0. The
// relative error is about (1 + |y|) units in the last place; results must not overflow.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V Pow(D d, V v, V y) {
  V power;
  if constexpr (sizeof(T) == 4) {
    // 2^(y·(k + l)), l = log2(1 + f): the whole part of the exponent costs no digits.
    const LogParts<V> parts = SplitForLog(d, v);
    const V yl = hn::Mul(y, hn::Mul(LogReduced(d, parts.f), hn::Set(d, 1.44269504f)));
    const V n = hn::Round(hn::MulAdd(y, parts.k, yl));
    const V yk = hn::Mul(y, parts.k);
    const V r = hn::Add(hn::Add(hn::Sub(yk, n), ProductError(d, y, parts.k, yk)), yl);
    const V magic = hn::Set(d, 12582912.0f);
    const V fraction = ExpReduced(d, hn::Mul(r, hn::Set(d, 0.693147181f)), magic, magic);
    const hn::RebindToSigned<D> di;
    const V lowest = hn::Set(d, -125.0f);
    const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(di, hn::Max(n, lowest)));
    power = hn::BitCast(d, hn::Add(hn::BitCast(di, fraction), exponent));
    power = hn::IfThenElseZero(hn::Ge(n, lowest), power);
  } else {
    const V exponent = hn::Mul(y, hn::Log(d, hn::Max(v, hn::Set(d, T(0x1p-1022)))));
    power = hn::Exp(d, exponent);
    power = hn::IfThenElseZero(hn::Ge(exponent, hn::Set(d, kExpFloor<T>)), power);
  }
  const V at_zero = hn::IfThenElseZero(hn::Eq(y, hn::Zero(d)), hn::Set(d, T(1)));
  return hn::IfThenElse(hn::Gt(v, hn::Zero(d)), power, at_zero);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_MATH_LOG_INL_H_
