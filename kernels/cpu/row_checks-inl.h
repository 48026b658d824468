// What is asked of a whole row, or of the lanes of several vectors at once, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_ROW_CHECKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_ROW_CHECKS_INL_H_
#undef SOFTLOSS_KERNELS_CPU_ROW_CHECKS_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_ROW_CHECKS_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// Lane i: op over the lanes of the vector at parts + i·Lanes(d).
template <std::size_t kVectors, class D, class Op>
HWY_INLINE hn::Vec<D> ReduceEach(D d, const hn::TFromD<D>* parts, Op op) {
  if constexpr (kVectors == 1) {
    return hn::Load(d, parts);
  } else {
    constexpr std::size_t kHalf = kVectors / 2;
    const auto a = ReduceEach<kHalf>(d, parts, op);
    const auto b = ReduceEach<kHalf>(d, parts + kHalf * hn::Lanes(d), op);
    return op(hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a));
  }
}
#endif

// How many of a row's values equal `value`.
template <typename T>
HWY_NOINLINE T Count(const RowWalk<T>& walk, const T* row, T value) {
  const Tag<T> d;
  const auto equal = hn::Set(d, value);
  std::size_t n = 0;
  for (std::size_t i = 0; i < walk.whole; i += hn::Lanes(d)) {
    n += hn::CountTrue(d, hn::Eq(hn::LoadU(d, row + i), equal));
  }
  if (walk.has_tail) {
    n += hn::CountTrue(d, hn::And(walk.fresh, hn::Eq(hn::LoadU(d, row + walk.tail), equal)));
  }
  return static_cast<T>(n);
}

// No for NaN and -0, too.
template <typename T>
HWY_NOINLINE bool AllInUnitInterval(const RowWalk<T>& walk, const T* row) {
  const Tag<T> d;
  UnitRange<Tag<T>> range(d);
  for (std::size_t i = 0; i < walk.whole; i += hn::Lanes(d)) range.Add(hn::LoadU(d, row + i));
  range.Add(hn::LoadU(d, row + walk.tail));
  return range.AllInside();
}

// Whether all values are below `limit` in size. No for NaN.
template <typename T>
HWY_INLINE bool AllBelow(const RowWalk<T>& walk, const T* row, T limit) {
  const Tag<T> d;
  const auto limits = hn::Set(d, limit);
  auto below = hn::Lt(hn::Abs(hn::LoadU(d, row + walk.tail)), limits);
  for (std::size_t i = 0; i < walk.whole; i += hn::Lanes(d)) {
    below = hn::And(below, hn::Lt(hn::Abs(hn::LoadU(d, row + i)), limits));
  }
  return hn::AllTrue(d, below);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_ROW_CHECKS_INL_H_
