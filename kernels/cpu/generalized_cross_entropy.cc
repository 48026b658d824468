#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/generalized_cross_entropy.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ t·(1 - p^q)/q.
template <typename T>
class GeneralizedCrossEntropy : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::M;
  using typename ClassTerm<T>::V;

 public:
  GeneralizedCrossEntropy(const LossSpec&, const LossParameters& parameters)
      : q_(static_cast<T>(parameters.q)) {}

  static constexpr Slopes kSlopes = Slopes::kLikeLabel;

  // d^-q.
  HWY_INLINE M OfRow(D d, V others, V& row) const {
    const V one = hn::Set(d, T(1));
    row = Pow(d, hn::Add(one, others), hn::Set(d, -q_));
    return AllLanes(d);
  }

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V one = hn::Set(d, T(1)), q = hn::Set(d, q_);
    V power;
    if constexpr (kLogits) {
      // e^(q·u) is a normal number where p is not.
      const V e = ExpNonPositive(d, Product(d, at.u, {q, hn::Zero(d)}));
      power = hn::Mul(e, at.row);
    } else {
      power = Pow(d, at.p, q);
    }
    const V gain = hn::Div(hn::Sub(one, power), q);
    return {hn::Mul(at.t, gain), hn::Neg(hn::Mul(at.t, power))};
  }

 private:
  T q_;
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(GeneralizedCrossEntropy)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(GeneralizedCrossEntropy)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
