#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/jensen_shannon_divergence.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "kernels/cpu/class_family-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Σ β·t·(ln t - ln M) + (1-β)·p·(ln p - ln M), M = βt + (1-β)p, for β in (0, 1).
template <typename T>
class JensenShannonDivergence : public ClassTerm<T> {
  using typename ClassTerm<T>::D;
  using typename ClassTerm<T>::M;
  using typename ClassTerm<T>::V;

 public:
  JensenShannonDivergence(const LossSpec&, const LossParameters& parameters)
      : label_share_(static_cast<T>(parameters.beta)),
        share_(static_cast<T>(1 - static_cast<double>(parameters.beta))) {}

  static constexpr Slopes kSlopes = Slopes::kSmall;

  template <bool kLogits>
  HWY_INLINE M Serves(D d, const ClassAt<V>& at) const {
    return ClassTerm<T>::ZeroOrNormal(d, at.t);
  }

  template <bool kLogits>
  HWY_INLINE TermAt<V> operator()(D d, const ClassAt<V>& at) const {
    const V one = hn::Set(d, T(1)), least = hn::Set(d, std::numeric_limits<T>::min());
    const V label_share = hn::Set(d, label_share_), share = hn::Set(d, share_);
    // Where p and t are close to 1, ln M is small: it is taken from 1 - M.
    const V mixture = hn::MulAdd(label_share, at.t, hn::Mul(share, at.p));
    const V not_mixture = hn::MulAdd(label_share, hn::Sub(one, at.t), hn::Mul(share, at.not_p));
    const V log_mixture = LogOfComplement(d, hn::Max(mixture, least), not_mixture);
    const V slope = hn::Mul(hn::Mul(share, at.p), hn::Sub(at.log_p, log_mixture));
    const V of_label = hn::NegMulAdd(at.t, log_mixture, ClassTerm<T>::TLogT(d, at.t));
    return {hn::MulAdd(label_share, of_label, slope), slope};
  }

 private:
  T label_share_, share_;  // β, 1 - β
};

SOFTLOSS_CLASS_LOSS_ON_TARGET(JensenShannonDivergence)

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

SOFTLOSS_CLASS_LOSS(JensenShannonDivergence)

}  // namespace softloss::cpu
#endif  // HWY_ONCE
