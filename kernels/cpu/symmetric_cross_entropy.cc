#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/symmetric_cross_entropy.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// α·CE + β·Σ p·A, A = -ln max(t, 1e-4).
template <typename T>
class SymmetricCrossEntropy : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::V;

 public:
  SymmetricCrossEntropy(const LossSpec&, const LossParameters& parameters)
      : alpha_(static_cast<T>(parameters.alpha)), beta_(static_cast<T>(parameters.beta)) {}

  // With α = 0 all of a right answer's.
  static constexpr Slopes kSlopes = Slopes::kSmall;

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V floor = hn::Set(d, static_cast<T>(1e-4f));
    const V forward = hn::Mul(hn::Set(d, -alpha_), at.t);
    const V log_t = LogPositive(d, hn::Max(at.t, floor));
    const V reverse = hn::Mul(hn::Mul(hn::Set(d, -beta_), at.p), log_t);
    return {hn::MulAdd(forward, at.log_p, reverse), hn::Add(forward, reverse)};
  }

 private:
  T alpha_, beta_;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(SymmetricCrossEntropy)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(SymmetricCrossEntropy)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
