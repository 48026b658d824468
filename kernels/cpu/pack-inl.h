// Several vectors in step, a copy a SIMD target.
//
// An exponential is a chain of fifteen instructions that wait for one another. Processors look some
// sixty instructions ahead, too few to find the work of the next vectors behind such a chain: so the
// chains of several vectors are written side by side. Every function does to a vector what it does to
// it alone, so that results do not depend on how vectors are packed.
#if defined(SOFTLOSS_KERNELS_CPU_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_PACK_INL_H_
#undef SOFTLOSS_KERNELS_CPU_PACK_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_PACK_INL_H_
#endif

#include <cstddef>
#include <utility>

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// How many vectors hide an exponential's chain.
inline constexpr std::size_t kPack = 4;

template <class V, std::size_t N>
struct Pack {
  V v[N];
};

// f of the first vectors, f of the second, …
template <class F, class V, std::size_t N, class... Vs, std::size_t... I>
HWY_INLINE Pack<V, N> EachOf(F f, std::index_sequence<I...>, const Pack<V, N>& a,
                             const Pack<Vs, N>&... others) {
  const auto one = [&](auto i) HWY_ATTR { return f(a.v[i], others.v[i]...); };
  return {{one(std::integral_constant<std::size_t, I>())...}};
}
template <class F, class V, std::size_t N, class... Vs>
HWY_INLINE Pack<V, N> Each(F f, const Pack<V, N>& a, const Pack<Vs, N>&... others) {
  return EachOf(f, std::make_index_sequence<N>(), a, others...);
}

template <class F, std::size_t... I>
HWY_INLINE void ForEachOf(F f, std::index_sequence<I...>) {
  (f(std::integral_constant<std::size_t, I>()), ...);
}
// f(0), …, f(N - 1), written out.
template <std::size_t N, class F>
HWY_INLINE void ForEach(F f) {
  ForEachOf(f, std::make_index_sequence<N>());
}

template <std::size_t N, class D, std::size_t... I>
HWY_INLINE Pack<hn::Vec<D>, N> LoadPackOf(D d, const hn::TFromD<D>* from, std::size_t step,
                                          std::index_sequence<I...>) {
  return {{hn::LoadU(d, from + I * step)...}};
}
// Vectors `step` elements apart.
template <std::size_t N, class D>
HWY_INLINE Pack<hn::Vec<D>, N> LoadPack(D d, const hn::TFromD<D>* from, std::size_t step) {
  return LoadPackOf<N>(d, from, step, std::make_index_sequence<N>());
}

template <class D, class V, std::size_t N, std::size_t... I>
HWY_INLINE void StorePackOf(const Pack<V, N>& p, D d, hn::TFromD<D>* to, std::size_t step,
                            std::index_sequence<I...>) {
  (hn::StoreU(p.v[I], d, to + I * step), ...);
}
template <class D, class V, std::size_t N>
HWY_INLINE void StorePack(const Pack<V, N>& p, D d, hn::TFromD<D>* to, std::size_t step) {
  StorePackOf(p, d, to, step, std::make_index_sequence<N>());
}

template <class V>
HWY_INLINE V SumOfPack(const Pack<V, 1>& p) {
  return p.v[0];
}
template <class V>
HWY_INLINE V SumOfPack(const Pack<V, 2>& p) {
  return hn::Add(p.v[0], p.v[1]);
}
template <class V>
HWY_INLINE V SumOfPack(const Pack<V, 3>& p) {
  return hn::Add(hn::Add(p.v[0], p.v[1]), p.v[2]);
}
template <class V>
HWY_INLINE V SumOfPack(const Pack<V, 4>& p) {
  return hn::Add(hn::Add(p.v[0], p.v[1]), hn::Add(p.v[2], p.v[3]));
}

// Σ a·b.
template <class V>
HWY_INLINE V DotOfPacks(const Pack<V, 1>& a, const Pack<V, 1>& b) {
  return hn::Mul(a.v[0], b.v[0]);
}
template <class V>
HWY_INLINE V DotOfPacks(const Pack<V, 2>& a, const Pack<V, 2>& b) {
  return hn::MulAdd(a.v[1], b.v[1], hn::Mul(a.v[0], b.v[0]));
}
template <class V>
HWY_INLINE V DotOfPacks(const Pack<V, 3>& a, const Pack<V, 3>& b) {
  const V low = hn::MulAdd(a.v[1], b.v[1], hn::Mul(a.v[0], b.v[0]));
  return hn::MulAdd(a.v[2], b.v[2], low);
}
template <class V>
HWY_INLINE V DotOfPacks(const Pack<V, 4>& a, const Pack<V, 4>& b) {
  const V low = hn::MulAdd(a.v[1], b.v[1], hn::Mul(a.v[0], b.v[0]));
  const V high = hn::MulAdd(a.v[3], b.v[3], hn::Mul(a.v[2], b.v[2]));
  return hn::Add(low, high);
}

// A constant for several vectors. Compilers would rather read it again for each of them, and loads are
// what these kernels are short of.
template <class D>
HWY_INLINE hn::Vec<D> InRegister(D d, hn::TFromD<D> value) {
  auto v = hn::Set(d, value);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
#if HWY_MAX_BYTES == 64
  asm("" : "+v"(v.raw));
#else
  asm("" : "+x"(v.raw));
#endif
#endif
  return v;
}

template <std::size_t N, class V, std::size_t... I>
HWY_INLINE Pack<V, N> SpreadOf(V v, std::index_sequence<I...>) {
  return {{(static_cast<void>(I), v)...}};
}
// N times the same.
template <std::size_t N, class V>
HWY_INLINE Pack<V, N> Spread(V v) {
  return SpreadOf<N>(v, std::make_index_sequence<N>());
}
template <std::size_t N, class V>
HWY_INLINE Pack<V, N> Spread(const Pack<V, 1>& p) {
  return Spread<N>(p.v[0]);
}

// fp32: e^r for r = u - k·ln 2, |r| ≤ ln(2)/2, times 2^(bits of t): the polynomial of ExpReduced.
template <class D, class V, std::size_t N>
HWY_INLINE Pack<V, N> ExpReduced(D d, const Pack<V, N>& u, const Pack<V, N>& t,
                                 const Pack<V, N>& k) {
  const hn::RebindToSigned<D> di;
  const auto r = Each([&](V a, V b) HWY_ATTR { return SubtractLn2(d, a, b); }, k, u);
  const auto next = [&](const Pack<V, N>& p, float c) HWY_ATTR {
    const V coefficient = InRegister(d, c);
    return Each([&](V a, V b) HWY_ATTR { return hn::MulAdd(a, b, coefficient); }, p, r);
  };
  auto p = next(Spread<N>(hn::Set(d, 1.39262504e-3f)), 8.36323295e-3f);
  p = next(next(p, 4.16665524e-2f), 1.66665763e-1f);
  p = next(next(next(p, 0.5f), 1.0f), 1.0f);
  return Each(
      [&](V a, V b) HWY_ATTR {
        const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, b));
        return hn::BitCast(d, hn::Add(hn::BitCast(di, a), exponent));
      },
      p, t);
}

// What exponentials relative to maxima need: RelativeExp (math-inl.h) says why.
template <class V, std::size_t N>
struct RelativeTo {
  Pack<V, N> subtract, magic;
  Pack<V, N> floor;  // fp32: of u·log2 e + magic
};

template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE RelativeTo<V, N> RelativeToMax(D d, const Pack<V, N>& max) {
  if constexpr (sizeof(T) == 4) {
    const V base = hn::Set(d, 12582912.0f);
    const auto kept = Each(
        [&](V m) HWY_ATTR { return hn::IfThenElseZero(hn::Le(hn::Abs(m), hn::Set(d, 208.0f)), m); },
        max);
    const auto shift =
        Each([&](V k) HWY_ATTR { return hn::MulAdd(k, hn::Set(d, 1.44269504f), base); }, kept);
    return {Each([&](V m, V k) HWY_ATTR { return hn::Sub(m, k); }, max, kept),
            Each([&](V s) HWY_ATTR { return hn::Sub(base, hn::Sub(s, base)); }, shift),
            Spread<N>(hn::Sub(base, hn::Set(d, 122.0f)))};
  } else {
    return {max, Spread<N>(hn::Zero(d)), Spread<N>(hn::Set(d, T(-708)))};
  }
}

// For x ≤ the maxima; 0 where the result is below 1e-36 (fp32) or 1e-307.
template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE Pack<V, N> ExpRelative(D d, const RelativeTo<V, N>& to, const Pack<V, N>& x) {
  const auto u = Each([&](V a, V b) HWY_ATTR { return hn::Sub(a, b); }, x, to.subtract);
  if constexpr (sizeof(T) == 4) {
    const V log2_e = InRegister(d, 1.44269504f);
    const auto t = Each([&](V a, V b) HWY_ATTR { return hn::MulAdd(a, log2_e, b); }, u, to.magic);
    const auto k = Each([&](V a, V b) HWY_ATTR { return hn::Sub(a, b); }, t, to.magic);
    return Each([&](V a, V b, V c) HWY_ATTR { return hn::IfThenElseZero(hn::Ge(b, c), a); },
                ExpReduced(d, u, t, k), t, to.floor);
  } else {
    return Each([&](V a, V b) HWY_ATTR { return hn::IfThenElseZero(hn::Ge(a, b), hn::Exp(d, a)); },
                u, to.floor);
  }
}

// The same where all vectors have the same maxima.
template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE Pack<V, N> ExpRelativeToOne(D d, const RelativeTo<V, 1>& to, const Pack<V, N>& x) {
  const V subtract = to.subtract.v[0], magic = to.magic.v[0], floor = to.floor.v[0];
  const auto u = Each([&](V a) HWY_ATTR { return hn::Sub(a, subtract); }, x);
  if constexpr (sizeof(T) == 4) {
    const V log2_e = hn::Set(d, 1.44269504f);
    const auto t = Each([&](V a) HWY_ATTR { return hn::MulAdd(a, log2_e, magic); }, u);
    const auto k = Each([&](V a) HWY_ATTR { return hn::Sub(a, magic); }, t);
    return Each([&](V a, V b) HWY_ATTR { return hn::IfThenElseZero(hn::Ge(b, floor), a); },
                ExpReduced(d, u, t, k), t);
  } else {
    return Each([&](V a) HWY_ATTR { return hn::IfThenElseZero(hn::Ge(a, floor), hn::Exp(d, a)); },
                u);
  }
}

// fp32: ln(1 + f) = 2 atanh(w), given w; q are the minimax polynomial's coefficients in w² from the
// second on.
template <class D, class V, std::size_t N>
HWY_INLINE Pack<V, N> TwiceAtanh(D d, const Pack<V, N>& w, float q3, float q2, float q1, float q0) {
  const auto s = Each([&](V a) HWY_ATTR { return hn::Mul(a, a); }, w);
  const auto next = [&](const Pack<V, N>& p, float c) HWY_ATTR {
    const V coefficient = InRegister(d, c);
    return Each([&](V a, V b) HWY_ATTR { return hn::MulAdd(a, b, coefficient); }, p, s);
  };
  const auto q = next(next(next(Spread<N>(hn::Set(d, q3)), q2), q1), q0);
  return Each([&](V a, V b, V c) HWY_ATTR { return hn::MulAdd(hn::Mul(a, b), c, hn::Add(a, a)); },
              w, s, q);
}

// ln(1 + z) for z in [0, 2^60]: as LogOnePlus.
template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE Pack<V, N> LogOnePlus(D d, const Pack<V, N>& z) {
  if constexpr (sizeof(T) == 4) {
    const hn::RebindToSigned<D> di;
    const V one = hn::Set(d, 1.0f);
    const auto u = Each([&](V a) HWY_ATTR { return hn::Add(one, a); }, z);
    const auto k_bits = Each(
        [&](V a) HWY_ATTR {
          const auto k = hn::ShiftRight<23>(hn::Sub(hn::BitCast(di, a), hn::Set(di, 0x3F3504F3)));
          return hn::BitCast(d, hn::ShiftLeft<23>(k));
        },
        u);
    const auto f = Each(
        [&](V a, V b, V c) HWY_ATTR {
          const V lost = hn::Sub(c, hn::Sub(a, one));
          const V mantissa = hn::BitCast(d, hn::Sub(hn::BitCast(di, a), hn::BitCast(di, b)));
          const V scale = hn::BitCast(d, hn::Sub(hn::Set(di, 0x3F800000), hn::BitCast(di, b)));
          return hn::MulAdd(lost, scale, hn::Sub(mantissa, one));
        },
        u, k_bits, z);
    const auto w = Each([&](V a) HWY_ATTR { return hn::Div(a, hn::Add(a, hn::Set(d, 2.0f))); }, f);
    const auto log = TwiceAtanh(d, w, 0.233369261f, 0.285505831f, 0.400001228f, 0.666666687f);
    return Each(
        [&](V a, V b) HWY_ATTR {
          const V k = hn::ConvertTo(d, hn::ShiftRight<23>(hn::BitCast(di, a)));
          return hn::MulAdd(k, hn::Set(d, 0.693147181f), b);
        },
        k_bits, log);
  } else {
    return Each([&](V a) HWY_ATTR { return hn::Log1p(d, a); }, z);
  }
}

// For z in [0, 1], of e^-|x|: what the logistic function and its logarithm are made of.
template <class V, std::size_t N>
struct Logistic {
  Pack<V, N> inverse;  // 1 / (1 + z)
  Pack<V, N> log;      // ln(1 + z)
};

template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE Logistic<V, N> LogisticOf(D d, const Pack<V, N>& z) {
  const auto times = [&](V a, V b) HWY_ATTR { return hn::Mul(a, b); };
  const auto one_z = Each([&](V a) HWY_ATTR { return hn::Add(a, hn::Set(d, T(1))); }, z);
  if constexpr (sizeof(T) == 4) {
    // 1 / (1 + z) and 1 / (2 + z) of one division.
    const auto two_z = Each([&](V a) HWY_ATTR { return hn::Add(a, hn::Set(d, 2.0f)); }, z);
    const auto both = Each(
        [&](V a, V b) HWY_ATTR { return hn::Div(hn::Set(d, 1.0f), hn::Mul(a, b)); }, one_z, two_z);
    const auto w = Each(times, z, Each(times, one_z, both));
    return {Each(times, two_z, both),
            TwiceAtanh(d, w, 0.2802446f, 0.27999142f, 0.400217f, 0.6666641f)};
  } else {
    return {Each([&](V a) HWY_ATTR { return hn::Div(hn::Set(d, T(1)), a); }, one_z),
            Each([&](V a) HWY_ATTR { return hn::Log1p(d, a); }, z)};
  }
}

// e^x for x ≤ 0; 0 below 1e-36 (fp32) or 1e-307.
template <class D, class V, std::size_t N, typename T = hn::TFromD<D>>
HWY_INLINE Pack<V, N> ExpNonPositive(D d, const Pack<V, N>& x) {
  if constexpr (sizeof(T) == 4) {
    const V base = hn::Set(d, 12582912.0f);
    return ExpRelative(d,
                       RelativeTo<V, N>{Spread<N>(hn::Zero(d)), Spread<N>(base),
                                        Spread<N>(hn::Sub(base, hn::Set(d, 122.0f)))},
                       x);
  } else {
    return Each([&](V a) HWY_ATTR { return ExpNonPositive(d, a); }, x);
  }
}

// fp32: e^(x + low) for x ≤ 0 and a low of at most half a unit in the last place of x; 0 below 1e-36.
template <class D, class V, std::size_t N>
HWY_INLINE Pack<V, N> ExpNonPositive(D d, const Pack<V, N>& x, const Pack<V, N>& low) {
  const auto magic = Spread<N>(hn::Set(d, 12582912.0f));
  const auto t =
      Each([&](V a, V b) HWY_ATTR { return hn::MulAdd(a, hn::Set(d, 1.44269504f), b); }, x, magic);
  const auto k = Each([&](V a, V b) HWY_ATTR { return hn::Sub(a, b); }, t, magic);
  const auto e = ExpReduced(d, x, t, k);
  return Each(
      [&](V a, V b, V c) HWY_ATTR {
        return hn::IfThenElseZero(hn::Ge(c, hn::Set(d, -85.0f)), hn::MulAdd(a, b, a));
      },
      e, low, x);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_PACK_INL_H_
