#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/poly1_cross_entropy.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ t·(ε·(1-p) - ln p).
template <typename T>
class Poly1CrossEntropy : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::V;

 public:
  Poly1CrossEntropy(const LossSpec&, const LossParameters& parameters)
      : epsilon_(static_cast<T>(parameters.epsilon)) {}

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V epsilon = hn::Set(d, epsilon_), one = hn::Set(d, T(1));
    return {hn::Mul(at.t, hn::MulSub(epsilon, at.not_p, at.log_p)),
            hn::Neg(hn::Mul(at.t, hn::MulAdd(epsilon, at.p, one)))};
  }

 private:
  T epsilon_;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(Poly1CrossEntropy)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(Poly1CrossEntropy)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
