// What losses over classes are made of, a copy a SIMD target: a class as predicted, and the loss's
// term for it. The drivers (class_columns-inl.h, class_rows-inl.h) do everything else.
#if defined(SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_
#undef SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_
#endif

#include "hwy/highway.h"

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/math_log-inl.h"
#include "kernels/loss.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// A class as predicted and labelled. What a loss does not read is not computed.
template <class V>
struct ClassAt {
  V t;
  V p, not_p, log_p;  // not_p = 1 - p and log_p have digits of their own where p is close to 1
};

template <class V>
struct TermAt {
  V loss;
  V slope;  // q = p·∂loss/∂p
};

// The base of losses' terms. A term T has, besides what it wants to redefine of this,
//   T(const LossSpec&, const LossParameters&)
//   template <bool kLogits> TermAt<V> operator()(D, const ClassAt<V>&) const
// without the class weight. Lanes that a mask says are not served may hold anything.
template <typename T>
struct ClassTerm {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

  // Labels, of those in [0, 2^40], that operator() serves.
  HWY_INLINE M Serves(D d, V) const { return AllLanes(d); }

 protected:
  // 0, and the positive numbers that LogPositive() takes.
  static HWY_INLINE M ZeroOrNormal(D d, V t) {
    const V zero = hn::Zero(d);
    return hn::Or(hn::Eq(t, zero), hn::Ge(t, hn::Set(d, std::numeric_limits<T>::min())));
  }
  // t·ln t for such t.
  static HWY_INLINE V TLogT(D d, V t) {
    const V log_t = LogPositive(d, hn::Max(t, hn::Set(d, std::numeric_limits<T>::min())));
    return hn::Mul(t, log_t);
  }
};

// From logits to classes as predicted.
template <typename T>
class Softmax {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  HWY_INLINE Softmax(D d, const LossParameters& parameters) {
    const double temperature = static_cast<double>(parameters.temperature);
    const T rate = static_cast<T>(1 / temperature);
    // 1 - rate·T is exact in fp64 for fp32's rates, and by an fma for fp64's.
    const double rest = std::fma(-static_cast<double>(rate), temperature, 1.0) / temperature;
    temperature_ = hn::Set(d, static_cast<T>(temperature));
    rate_ = {hn::Set(d, rate), hn::Set(d, static_cast<T>(rest))};
    z_loss_ = hn::Set(d, static_cast<T>(parameters.z_loss));
  }

  HWY_INLINE Pair<V> Exponent(D d, V x, V max) const {
    return Product(d, Difference(x, max), rate_);
  }
  HWY_INLINE V Exponential(D d, V x, V max) const { return ExpNonPositive(d, Exponent(d, x, max)); }

  // What all classes of a row share: d = 1 + others, where `others` is the sum of all exponentials
  // but a maximum's.
  struct Row {
    V max, sum, log_sum, max_not_p;
  };
  HWY_INLINE Row RowOf(D d, V max, V others) const {
    const V sum = hn::Add(others, hn::Set(d, T(1)));
    return {max, sum, LogOnePlus(d, others), hn::Div(others, sum)};
  }

  // `e` is Exponential's, kept because it is dear.
  HWY_INLINE ClassAt<V> Predict(D d, const Row& row, V x, V e, V t) const {
    ClassAt<V> at;
    at.t = t;
    at.p = hn::Div(e, row.sum);
    at.not_p = hn::IfThenElse(hn::Eq(x, row.max), row.max_not_p, hn::Sub(hn::Set(d, T(1)), at.p));
    at.log_p = hn::Sub(Exponent(d, x, row.max).high, row.log_sum);
    return at;
  }

  // ln Σ e^(x/T), times λ: for λ·lse² and 2λ·lse·p.
  HWY_INLINE V LogSumExp(const Row& row) const {
    return hn::Add(hn::Div(row.max, temperature_), row.log_sum);
  }
  HWY_INLINE V z_loss() const { return z_loss_; }
  HWY_INLINE V rate() const { return rate_.high; }

 private:
  V temperature_, z_loss_;
  Pair<V> rate_;  // 1/T
};

// A class whose probability is given.
template <class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE ClassAt<V> PredictGiven(D d, V probability, V t) {
  ClassAt<V> at;
  const V one = hn::Set(d, T(1));
  at.t = t;
  at.p = hn::Max(probability, hn::Set(d, static_cast<T>(kProbabilityFloor)));
  at.not_p = hn::Sub(one, at.p);
  at.log_p = LogPositive(d, at.p);
  return at;
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_
