#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/brier.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ (p - t)².
template <typename T>
class Brier : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::V;

 public:
  Brier(const LossSpec&, const LossParameters&) {}

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D, const ClassAt<V>& at) const {
    const V distance = hn::Sub(at.p, at.t);
    return {hn::Mul(distance, distance), hn::Mul(hn::Add(at.p, at.p), distance)};
  }
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(Brier)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(Brier)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
