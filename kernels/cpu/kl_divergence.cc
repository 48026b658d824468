#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/kl_divergence.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ t·(ln t - ln p), and T² times that: distillation.
template <typename T>
class KlDivergence : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::M;
  using typename ClassTerm<T>::V;

 public:
  KlDivergence(const LossSpec& spec, const LossParameters& parameters) {
    const T temperature = static_cast<T>(parameters.temperature);
    if (spec.loss == Loss::kDistillation) factor_ = temperature * temperature;
  }

  template <bool kLogits>
  HWY_INLINE M Serves(D d, const ClassAt<V>& at) const {
    return ClassTerm<T>::ZeroOrNormal(d, at.t);
  }

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V factor = hn::Set(d, factor_);
    const V loss = hn::NegMulAdd(at.t, at.log_p, ClassTerm<T>::TLogT(d, at.t));
    return {hn::Mul(factor, loss), hn::Mul(factor, hn::Neg(at.t))};
  }

 private:
  T factor_ = 1;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(KlDivergence)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(KlDivergence)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
