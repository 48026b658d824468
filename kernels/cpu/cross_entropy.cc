#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// -Σ t·ln p: softmax cross entropy where it has a temperature, z-loss or probabilities.
template <typename T>
class CrossEntropy : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::V;

 public:
  CrossEntropy(const LossSpec&, const LossParameters&) {}

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D, const ClassAt<V>& at) const {
    const V slope = hn::Neg(at.t);
    return {hn::Mul(slope, at.log_p), slope};
  }
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(CrossEntropy)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(CrossEntropy)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
