// The gradient of softmax cross entropy over a row, or a part of one, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_ROW_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_ROW_GRADIENT_INL_H_
#undef SOFTLOSS_KERNELS_CPU_ROW_GRADIENT_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_ROW_GRADIENT_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Vectors whose squares are added in the compute type, where the sum goes on in fp64.
inline constexpr std::size_t kSquaresPerFlush = 2 * kPack;

// A row's labels: dense ones, or `weight` at one class and 0 elsewhere.
template <typename T, bool kDense>
struct RowTarget {
  using D = Tag<T>;
  using DI = hn::RebindToSigned<D>;

  const T* t;       // dense ones, any alignment
  std::int64_t id;  // the class otherwise, from the row's begin; may lie outside
  hn::Vec<D> weight;

  HWY_INLINE hn::Vec<D> operator()(std::size_t i) const {
    if constexpr (kDense) {
      return hn::LoadU(D(), t + i);
    } else {
      using TI = hn::TFromD<DI>;
      const auto at = hn::Iota(DI(), static_cast<TI>(i));
      const auto is_id = hn::Eq(at, hn::Set(DI(), static_cast<TI>(id)));
      return hn::IfThenElseZero(hn::MaskFromVec(hn::BitCast(D(), hn::VecFromMask(DI(), is_id))),
                                weight);
    }
  }
};

// g = e·scale - target; stores weighted(g) to `to`, with kStream past the caches. Returns Σ g², lane by
// lane; kWide: what of it is not in `wide` yet.
//
// A pack is computed before the one before it is stored. Where labels and gradient lie alike within
// their pages, a load that follows a store to the same offset takes it for the one it waits for, and
// stores past the caches take long: that cost 5 to 8 % of a score.
template <bool kWide, bool kStream, typename T, class Target, class Weighted,
          class V = hn::Vec<Tag<T>>>
HWY_INLINE V RowGradient(const RowWalk<T>& walk, const T* e, V scale, const Target& target,
                         Weighted weighted, T* to, WideSum<Tag<T>>& wide) {
  const Tag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto gradient = [&](std::size_t i)
                            HWY_ATTR { return hn::MulSub(hn::LoadU(d, e + i), scale, target(i)); };
  const auto store = [&](V g, std::size_t i) HWY_ATTR {
    if constexpr (kStream) {
      hn::Stream(weighted(g), d, to + i);
    } else {
      hn::StoreU(weighted(g), d, to + i);
    }
  };
  // In four chains, each of which waits for its last sum.
  V square0 = hn::Zero(d), square1 = square0, square2 = square0, square3 = square0;
  const auto add = [&](V g, V& square) HWY_ATTR { square = hn::MulAdd(g, g, square); };
  std::size_t i = 0;
  if (kPack * lanes <= walk.whole) {
    V g0 = gradient(0), g1 = gradient(lanes), g2 = gradient(2 * lanes), g3 = gradient(3 * lanes);
    for (std::size_t added = 0;;) {
      add(g0, square0);
      add(g1, square1);
      add(g2, square2);
      add(g3, square3);
      if (kWide && (added += kPack) == kSquaresPerFlush) {
        wide.Add(d, hn::Add(hn::Add(square0, square1), hn::Add(square2, square3)));
        square0 = square1 = square2 = square3 = hn::Zero(d);
        added = 0;
      }
      const std::size_t at = i;
      const V last0 = g0, last1 = g1, last2 = g2, last3 = g3;
      i += kPack * lanes;
      const bool more = i + kPack * lanes <= walk.whole;
      if (more) {
        g0 = gradient(i);
        g1 = gradient(i + lanes);
        g2 = gradient(i + 2 * lanes);
        g3 = gradient(i + 3 * lanes);
      }
      store(last0, at);
      store(last1, at + lanes);
      store(last2, at + 2 * lanes);
      store(last3, at + 3 * lanes);
      if (!more) break;
    }
  }
  for (; i < walk.whole; i += lanes) {
    const V g = gradient(i);
    store(g, i);
    add(g, square0);
  }
  if (walk.has_tail) {
    const V g = gradient(walk.tail);
    hn::StoreU(weighted(g), d, to + walk.tail);
    add(hn::IfThenElseZero(walk.fresh, g), square2);
  }
  return hn::Add(hn::Add(square0, square1), hn::Add(square2, square3));
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_ROW_GRADIENT_INL_H_
