// exp and log1p for the kernels, a copy a SIMD target.
//
// Both are accurate to about 1e-7 relative in fp32 (2 ulp) wherever the result is at least 1e-36, and
// to about 2 ulp in fp64. Arguments outside the documented ranges give unspecified finite or NaN
// values, never a trap: callers mask or repair such lanes.
#if defined(SOFTLOSS_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_MATH_INL_H_
#undef SOFTLOSS_KERNELS_CPU_MATH_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_MATH_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/exact.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that scratch rows of a multiple of 16 suit every target.
template <typename T>
using Tag = hn::CappedTag<T, 16>;

template <class D>
HWY_INLINE hn::Mask<D> NoLanes(D d) {
  return hn::MaskFromVec(hn::Zero(d));
}
template <class D>
HWY_INLINE hn::Mask<D> AllLanes(D d) {
  return hn::Not(NoLanes(d));
}

template <typename T>
inline constexpr T kHugeLogit = static_cast<T>(kExactLogit);
template <typename T>
inline constexpr T kHugeLabel = static_cast<T>(kExactLabel);

// fp32: u - k·ln 2 for |k| ≤ 450. Where a product is not rounded before it is added, ln 2 in one piece
// costs 1.9e-9·k, which is the same for all exponentials of one k, and cancels between neighbours.
template <class D, class V>
HWY_INLINE V SubtractLn2(D d, V k, V u) {
#if HWY_NATIVE_FMA
  return hn::NegMulAdd(k, hn::Set(d, 0.693147181f), u);
#else
  const V r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), u);  // exact: k·(355/512) has few bits
  return hn::NegMulAdd(k, hn::Set(d, -2.12194440e-4f), r);
#endif
}

// fp32: e^r for r = u - k·ln 2, |r| ≤ ln(2)/2, times 2^(bits of t); minimax of (e^r - 1 - r)/r².
template <class D, class V>
HWY_INLINE V ExpReduced(D d, V u, V t, V magic) {
  const hn::RebindToSigned<D> di;
  const V k = hn::Sub(t, magic);
  const V r = SubtractLn2(d, k, u);
  V q = hn::MulAdd(hn::Set(d, 1.39262504e-3f), r, hn::Set(d, 8.36323295e-3f));
  q = hn::MulAdd(q, r, hn::Set(d, 4.16665524e-2f));
  q = hn::MulAdd(q, r, hn::Set(d, 1.66665763e-1f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.5f));
  const V p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, t));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

// Exponentials relative to a maximum m: e^(x - m)·c, where c in [0.7, 1.5) depends on m alone.
//
// x - m rounds, and for x - m = -69 that would cost the result 4e-6 of itself. So in fp32 the shift
// is a power of two, K = round(m·log2 e), taken from the exponent. Where |m| > 208 the difference is
// exact for every x whose exponential is not 0, and K = 0. In fp64 the rounding does not matter.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
class RelativeExp {
 public:
  HWY_INLINE RelativeExp(D d, V m) {
    if constexpr (sizeof(T) == 4) {
      const V kept = hn::IfThenElseZero(hn::Le(hn::Abs(m), hn::Set(d, 208.0f)), m);
      const V base = hn::Set(d, 12582912.0f);  // 1.5·2^23: adding it rounds to an integer
      const V k = hn::Sub(hn::MulAdd(kept, hn::Set(d, 1.44269504f), base), base);
      subtract_ = hn::Sub(m, kept);
      magic_ = hn::Sub(base, k);
      floor_ = hn::Sub(kept, hn::Set(d, 85.0f));
    } else {
      subtract_ = m;
      magic_ = hn::Zero(d);
      floor_ = hn::Set(d, T(-708));
    }
  }

  // For x ≤ m; 0 where the result is below 1e-36 (fp32) or 1e-307.
  HWY_INLINE V operator()(D d, V x) const {
    const V u = hn::Sub(x, subtract_);
    V e;
    if constexpr (sizeof(T) == 4) {
      e = ExpReduced(d, u, hn::MulAdd(u, hn::Set(d, 1.44269504f), magic_), magic_);
    } else {
      e = hn::Exp(d, u);
    }
    return hn::IfThenElseZero(hn::Ge(u, floor_), e);
  }

 private:
  V subtract_, magic_, floor_;
};

// e^x for x ≤ 0.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V ExpNonPositive(D d, V x) {
  if constexpr (sizeof(T) == 4) {
    const V magic = hn::Set(d, 12582912.0f);
    const V e = ExpReduced(d, x, hn::MulAdd(x, hn::Set(d, 1.44269504f), magic), magic);
    return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -85.0f)), e);
  } else {
    return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, T(-708))), hn::Exp(d, x));
  }
}

// ln(1 + z) for z in [0, 1].
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V LogOnePlusUnit(D d, V z) {
  if constexpr (sizeof(T) == 4) {
    // 2 atanh(w), w = z / (2 + z) ≤ 1/3; minimax in s = w².
    const V w = hn::Div(z, hn::Add(z, hn::Set(d, 2.0f)));
    const V s = hn::Mul(w, w);
    V q = hn::MulAdd(hn::Set(d, 0.232249215f), s, hn::Set(d, 0.217064604f));
    q = hn::MulAdd(q, s, hn::Set(d, 0.28592366f));
    q = hn::MulAdd(q, s, hn::Set(d, 0.399997056f));
    q = hn::MulAdd(q, s, hn::Set(d, 0.666666687f));
    return hn::MulAdd(hn::Mul(w, s), q, hn::Add(w, w));
  } else {
    return hn::Log1p(d, z);
  }
}

// ln(1 + z) for z in [0, 2^60].
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE V LogOnePlus(D d, V z) {
  if constexpr (sizeof(T) == 4) {
    // 1 + z = 2^k·(1 + f), 1 + f in [√½, √2). `lost` is what rounding took from 1 + z, so that f = z
    // where k = 0.
    const hn::RebindToSigned<D> di;
    const V one = hn::Set(d, 1.0f);
    const V u = hn::Add(one, z);
    const V lost = hn::Sub(z, hn::Sub(u, one));
    const auto bits = hn::BitCast(di, u);
    const auto k = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3F3504F3)));
    const auto k_bits = hn::ShiftLeft<23>(k);
    const V mantissa = hn::BitCast(d, hn::Sub(bits, k_bits));
    const V scale = hn::BitCast(d, hn::Sub(hn::Set(di, 0x3F800000), k_bits));
    const V f = hn::MulAdd(lost, scale, hn::Sub(mantissa, one));
    const V w = hn::Div(f, hn::Add(f, hn::Set(d, 2.0f)));
    const V s = hn::Mul(w, w);
    V q = hn::MulAdd(hn::Set(d, 0.233369261f), s, hn::Set(d, 0.285505831f));
    q = hn::MulAdd(q, s, hn::Set(d, 0.400001228f));
    q = hn::MulAdd(q, s, hn::Set(d, 0.666666687f));
    const V log = hn::MulAdd(hn::Mul(w, s), q, hn::Add(w, w));
    return hn::MulAdd(hn::ConvertTo(d, k), hn::Set(d, 0.693147181f), log);
  } else {
    return hn::Log1p(d, z);
  }
}

// A sum, lane by lane, that keeps what its additions round off.
template <class D, class V = hn::Vec<D>>
class CompensatedSum {
 public:
  HWY_INLINE explicit CompensatedSum(D d) : sum_(hn::Zero(d)), lost_(sum_) {}

  HWY_INLINE void Add(V v) {
    const V next = hn::Add(sum_, v);
    const V added = hn::Sub(next, sum_);
    lost_ = hn::Add(lost_, hn::Add(hn::Sub(sum_, hn::Sub(next, added)), hn::Sub(v, added)));
    sum_ = next;
  }

  // The first one needs no care.
  HWY_INLINE void AddNext(V v, bool first) {
    if (first) {
      sum_ = v;
    } else {
      Add(v);
    }
  }

  // What infinities lose is NaN, and left out.
  HWY_INLINE V Total() const {
    const V total = hn::Add(sum_, lost_);
    return hn::IfThenElse(hn::Eq(total, total), total, sum_);
  }

 private:
  V sum_, lost_;
};

// Whether all values of some vectors are in [0, 1]. Says no where one is -0, too.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
class UnitRange {
 public:
  HWY_INLINE explicit UnitRange(D d) : most_(hn::Zero(DU())), inside_(AllLanes(d)) {}

  HWY_INLINE void Add(V v) {
    const D d;
    if constexpr (sizeof(T) == 4) {
      // As unsigned integers, negative numbers and NaN are above 1.
      most_ = hn::Max(most_, hn::BitCast(DU(), v));
    } else {
      inside_ = hn::And(inside_, hn::And(hn::Ge(v, hn::Zero(d)), hn::Le(v, hn::Set(d, T(1)))));
    }
  }
  HWY_INLINE hn::Mask<D> Inside() const {
    const D d;
    if constexpr (sizeof(T) == 4) {
      return hn::MaskFromVec(
          hn::BitCast(d, hn::VecFromMask(DU(), hn::Eq(hn::Max(most_, One()), One()))));
    } else {
      return inside_;
    }
  }
  HWY_INLINE bool AllInside() const { return hn::AllTrue(D(), Inside()); }

 private:
  using DU = hn::RebindToUnsigned<D>;
  static HWY_INLINE hn::Vec<DU> One() { return hn::BitCast(DU(), hn::Set(D(), T(1))); }
  hn::Vec<DU> most_;
  hn::Mask<D> inside_;
};

// An fp64 sum of vectors: lane by lane, then over the lanes.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
class WideSum {
 public:
  HWY_INLINE explicit WideSum(D) : low_(hn::Zero(Wide())), high_(low_) {}

  HWY_INLINE void Add(D, V v) {
    if constexpr (sizeof(T) == 8) {
      low_ = hn::Add(low_, v);
    } else {
#if HWY_TARGET == HWY_SCALAR
      low_ = hn::Add(low_, hn::PromoteTo(Wide(), v));
#else
      const hn::Half<D> half;
      low_ = hn::Add(low_, hn::PromoteTo(Wide(), hn::LowerHalf(half, v)));
      high_ = hn::Add(high_, hn::PromoteTo(Wide(), hn::UpperHalf(half, v)));
#endif
    }
  }

  HWY_INLINE double Total() const {
    return hn::GetLane(hn::SumOfLanes(Wide(), hn::Add(low_, high_)));
  }

 private:
#if HWY_TARGET == HWY_SCALAR
  using Wide = hn::Rebind<double, D>;
#else
  using Wide = hn::Repartition<double, D>;
#endif
  hn::Vec<Wide> low_, high_;
};

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_MATH_INL_H_
