// What rows of softmax cross entropy come to between the passes over their classes, and their results
// from it, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_SOFTMAX_BETWEEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_SOFTMAX_BETWEEN_INL_H_
#undef SOFTLOSS_KERNELS_CPU_SOFTMAX_BETWEEN_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_SOFTMAX_BETWEEN_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// An entry a row; not initialised. Classes whose exponential is the maximum's count as maxima: their shares are the same.
template <typename T, std::size_t kRows>
struct Between {
  HWY_ALIGN T max[kRows];
  HWY_ALIGN T dot[kRows];                                   // Σ t·(max - x)
  HWY_ALIGN T label_sum[kRows];                             // Σ t
  HWY_ALIGN T subtract[kRows], magic[kRows], floor[kRows];  // RelativeTo
  HWY_ALIGN T at_max[kRows];                                // the maximum's exponential
  HWY_ALIGN T maxima[kRows];                                // how many are that
  HWY_ALIGN T others[kRows];                                // Σ of the others
  HWY_ALIGN T scale[kRows];                                 // of them in the gradient

  // From max: what exponentials relative to it need. N vectors from entry r.
  template <std::size_t N>
  HWY_INLINE void Prepare(std::size_t r) {
    const Tag<T> d;
    const std::size_t lanes = hn::Lanes(d);
    const auto maximum = LoadPack<N>(d, max + r, lanes);
    const auto to = RelativeToMax(d, maximum);
    StorePack(to.subtract, d, subtract + r, lanes);
    StorePack(to.magic, d, magic + r, lanes);
    StorePack(to.floor, d, floor + r, lanes);
    StorePack(ExpRelative(d, to, maximum), d, at_max + r, lanes);
  }

  // From dot, label_sum, at_max, maxima and others: scale; returns the losses.
  template <std::size_t N>
  HWY_INLINE Pack<hn::Vec<Tag<T>>, N> Losses(std::size_t r) {
    const Tag<T> d;
    using V = hn::Vec<Tag<T>>;
    const V one = hn::Set(d, T(1));
    const std::size_t lanes = hn::Lanes(d);
    const auto load = [&](const T* from) HWY_ATTR { return LoadPack<N>(d, from + r, lanes); };
    const auto sum_others = load(others), count = load(maxima), e_max = load(at_max);
    const auto labels = load(label_sum);
    StorePack(Each([&](V a, V b, V c, V e) HWY_ATTR { return hn::Div(a, hn::MulAdd(b, e, c)); },
                   labels, count, sum_others, e_max),
              d, scale + r, lanes);
    const auto log = LogOnePlus(
        d, Each([&](V a, V b, V c) HWY_ATTR { return hn::Add(hn::Div(a, b), hn::Sub(c, one)); },
                sum_others, e_max, count));
    return Each([&](V a, V b, V c) HWY_ATTR { return hn::MulAdd(a, b, c); }, labels, log,
                load(dot));
  }
};

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_SOFTMAX_BETWEEN_INL_H_
