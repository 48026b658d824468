#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/expected_focal.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// -Σ t·(1-p)^γ·ln p.
template <typename T>
class ExpectedFocal : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::M;
  using typename ClassTerm<T>::V;

 public:
  ExpectedFocal(const LossSpec&, const LossParameters& parameters)
      : gamma_(static_cast<T>(parameters.gamma)),
        least_not_p_(gamma_ > 0 ? static_cast<T>(std::exp2(-100.0 / parameters.gamma)) : T(0)) {}

  static constexpr Slopes kSlopes = Slopes::kLikeLabel;

  // Given probabilities are judged a class at a time, so (1-p)^γ must not underflow.
  template <bool kLogits>
  HWY_INLINE M Serves(D d, const ClassAt<V>& at) const {
    if constexpr (kLogits) return AllLanes(d);
    return hn::Or(hn::Ge(at.not_p, hn::Set(d, least_not_p_)), hn::Eq(at.not_p, hn::Zero(d)));
  }

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V one = hn::Set(d, T(1)), zero = hn::Zero(d), gamma = hn::Set(d, gamma_);
    const V focus = gamma_ == 2   ? hn::Mul(at.not_p, at.not_p)
                    : gamma_ == 1 ? at.not_p
                                  : Pow(d, at.not_p, gamma);
    const V weighed = hn::Mul(at.t, focus);
    // p·ln p/(1-p), which tends to -1 where p tends to 1.
    const V ratio = hn::IfThenElse(hn::Eq(at.not_p, zero), hn::Neg(one),
                                   hn::Div(hn::Mul(at.p, at.log_p), at.not_p));
    return {hn::Neg(hn::Mul(weighed, at.log_p)), hn::Mul(weighed, hn::MulSub(gamma, ratio, one))};
  }

 private:
  T gamma_, least_not_p_;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(ExpectedFocal)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(ExpectedFocal)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
