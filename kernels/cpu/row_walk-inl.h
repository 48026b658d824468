// How kernels over classes walk a row or a column, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_ROW_WALK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_ROW_WALK_INL_H_
#undef SOFTLOSS_KERNELS_CPU_ROW_WALK_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_ROW_WALK_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Classes whose terms are added before they join the row's compensated sum. With one big term and
// many small ones, every plain addition may cost half a unit in the last place of the sum.
inline constexpr std::size_t kClassesPerFlush = 4;

template <class D>
HWY_INLINE hn::Mask<D> InUnitInterval(D d, hn::Vec<D> t) {
  return hn::And(hn::Ge(t, hn::Zero(d)), hn::Le(t, hn::Set(d, hn::TFromD<D>(1))));
}

// Vectors whose lanes are summed in the compute type before the sums go on in fp64. With one big term
// and many small ones, every addition may cost half a unit in the last place of the sum.
inline constexpr std::size_t kVectorsPerFlush = 4;

// Visits a row of at least a vector. The last vector is taken from the row's end, so that it overlaps
// the one before; `fresh` are its lanes that were not there.
template <typename T>
struct RowWalk {
  using D = Tag<T>;

  explicit RowWalk(std::size_t classes)
      : lanes(hn::Lanes(D())),
        whole(classes / lanes * lanes),
        tail(classes - lanes),
        has_tail(whole < classes),
        fresh(hn::Not(hn::FirstN(D(), lanes - (classes - whole)))) {}

  const std::size_t lanes, whole, tail;
  const bool has_tail;
  const hn::Mask<D> fresh;

  // body(i) for each whole vector, flush() after every kVectorsPerFlush and at the end, before which
  // last(tail) is called if there is one.
  template <class Body, class Last, class Flush>
  HWY_INLINE void ForEach(Body body, Last last, Flush flush) const {
    for (std::size_t i = 0; i < whole;) {
      const std::size_t end = std::min(whole, i + kVectorsPerFlush * lanes);
      for (; i < end; i += lanes) body(i);
      if (i == whole && has_tail) last(tail);
      flush();
    }
  }
};

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_ROW_WALK_INL_H_
