// What elementwise losses are made of, a copy a SIMD target: an element as predicted, and the losses'
// terms for it. element_loss.cc does everything else.
#if defined(SOFTLOSS_KERNELS_CPU_ELEMENT_TERMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_ELEMENT_TERMS_INL_H_
#undef SOFTLOSS_KERNELS_CPU_ELEMENT_TERMS_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_ELEMENT_TERMS_INL_H_
#endif

#include <limits>

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/math_log-inl.h"
#include "kernels/loss.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Every number and its complement have digits of their own: nothing is computed as 1 - something
// that may be close to 1.
template <class V>
struct ElementAt {
  V t, not_t;                  // not_t = 1 - t
  V s, not_s;                  // s as predicted, not_s = 1 - s
  V neg_log_s, neg_log_not_s;  // ≥ 0
  V pos_weight;
};

// From logits below this size. Beyond, e^-|x| is no normal number, but gradients may be in proportion
// to it.
template <typename T>
inline constexpr T kFarLogit = sizeof(T) == 4 ? T(85) : T(708);

template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE void PredictFromLogit(D d, V x, ElementAt<V>& at) {
  const V one = hn::Set(d, T(1));
  const V magnitude = hn::Abs(x);
  const V e = ExpNonPositive(d, hn::Neg(magnitude));
  const V log_term = LogOnePlusUnit(d, e);
  const V both = hn::Add(one, e);
  const V large = hn::Div(one, both), small = hn::Div(e, both);
  const V linear = hn::Add(magnitude, log_term);
  const auto positive = hn::Ge(x, hn::Zero(d));
  at.s = hn::IfThenElse(positive, large, small);
  at.not_s = hn::IfThenElse(positive, small, large);
  at.neg_log_s = hn::IfThenElse(positive, log_term, linear);
  at.neg_log_not_s = hn::IfThenElse(positive, linear, log_term);
}

template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE void PredictFromProbability(D d, V s, ElementAt<V>& at) {
  const V one = hn::Set(d, T(1)), floor = hn::Set(d, static_cast<T>(kProbabilityFloor));
  at.not_s = hn::Max(hn::Sub(one, s), floor);
  at.s = hn::Min(hn::Max(s, floor), hn::Sub(one, floor));
  at.neg_log_s = hn::Neg(LogOfComplement(d, at.s, at.not_s));
  at.neg_log_not_s = hn::Neg(LogOfComplement(d, at.not_s, at.s));
}

template <typename T>
inline constexpr T kLeastFactor = static_cast<T>(sizeof(T) == 4 ? 0x1p-120 : 0x1p-1000);

template <class V>
struct ElementTerm {
  V loss;
  // The gradient in x, or in s if that is what is given, as factor·rest: of tiny gradients only the
  // product, with the weight in `factor`, may underflow. A factor other than 0 below kLeastFactor says
  // that the element is not served.
  V factor, rest;
};

// s - t, from the side where neither it nor 1 - s has lost its digits.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Distance(D, const ElementAt<V>& at) {
  return hn::IfThenElse(hn::Lt(at.s, at.not_s), hn::Sub(at.s, at.t), hn::Sub(at.not_t, at.not_s));
}

// (1-t)·-ln(1-s) + π·t·-ln s, for probabilities.
template <typename T>
class BinaryCrossEntropy {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  explicit BinaryCrossEntropy(const LossParameters&) {}

  template <bool kLogits>
  requires(!kLogits) HWY_INLINE ElementTerm<V>
  operator()(D d, const ElementAt<V>& at) const {
    const V positive = hn::Mul(at.pos_weight, at.t);
    const V loss = hn::MulAdd(at.not_t, at.neg_log_not_s, hn::Mul(positive, at.neg_log_s));
    const V slope = hn::Sub(hn::Div(at.not_t, at.not_s), hn::Div(positive, at.s));
    return {loss, hn::Set(d, T(1)), slope};
  }
};

// (s - t)².
template <typename T>
class BinaryBrier {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  explicit BinaryBrier(const LossParameters&) {}

  template <bool kLogits>
  HWY_INLINE ElementTerm<V> operator()(D d, const ElementAt<V>& at) const {
    const V distance = Distance(d, at);
    const V rise = kLogits ? hn::Mul(at.s, at.not_s) : hn::Set(d, T(1));
    return {hn::Mul(distance, distance), hn::Add(distance, distance), rise};
  }
};

// |s - t|^β·BCE.
template <typename T>
class QualityFocal {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  explicit QualityFocal(const LossParameters& parameters)
      : beta_(static_cast<T>(parameters.beta)) {}

  template <bool kLogits>
  HWY_INLINE ElementTerm<V> operator()(D d, const ElementAt<V>& at) const {
    const V beta = hn::Set(d, beta_), one = hn::Set(d, T(1));
    const V signed_distance = Distance(d, at);
    const V distance = hn::Abs(signed_distance);
    const V bce = hn::MulAdd(at.not_t, at.neg_log_not_s, hn::Mul(at.t, at.neg_log_s));
    const V power = beta_ == 2 ? distance : beta_ == 1 ? one : Pow(d, distance, hn::Sub(beta, one));
    const V both = hn::Mul(at.s, at.not_s);
    // |s-t|^(β-1)·sgn(s-t)·((s-t)²/(s·(1-s)) + β·BCE), times s·(1-s) for logits.
    const V square = hn::Mul(distance, distance);
    const V rest = kLogits ? hn::MulAdd(hn::Mul(beta, both), bce, square)
                           : hn::MulAdd(beta, bce, hn::Div(square, both));
    // A power that underflowed is small, not 0.
    const V least = hn::Set(d, std::numeric_limits<T>::min());
    const V factor = hn::IfThenZeroElse(hn::Eq(distance, hn::Zero(d)),
                                        hn::CopySign(hn::Max(power, least), signed_distance));
    return {hn::Mul(hn::Mul(power, distance), bce), factor, rest};
  }

 private:
  T beta_;
};

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_ELEMENT_TERMS_INL_H_
