#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reverse_kl_divergence.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ p·(ln p - ln max(t, ε)).
template <typename T>
class ReverseKlDivergence : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::M;
  using typename ClassTerm<T>::V;

 public:
  ReverseKlDivergence(const LossSpec&, const LossParameters& parameters)
      : floor_(static_cast<T>(parameters.epsilon)) {}

  static constexpr Slopes kSlopes = Slopes::kSmall;

  // The loss is infinite where the label is 0.
  template <bool kLogits>
  HWY_INLINE M Serves(D d, const ClassAt<V>& at) const {
    return hn::Ge(Label(d, at), hn::Set(d, std::numeric_limits<T>::min()));
  }

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V loss = hn::Mul(at.p, hn::Sub(at.log_p, LogPositive(d, Label(d, at))));
    return {loss, hn::Add(loss, at.p)};
  }

 private:
  HWY_INLINE V Label(D d, const ClassAt<V>& at) const { return hn::Max(at.t, hn::Set(d, floor_)); }

  T floor_;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(ReverseKlDivergence)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(ReverseKlDivergence)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
