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
  Pair<V> u;          // from logits: (x - max)/T, so that p = e^u/d
  V row;              // from logits: what ClassTerm::OfRow made
};

template <class V>
struct TermAt {
  V loss;
  V slope;  // q = p·∂loss/∂p
};

// How small a class's slope may be.
enum class Slopes {
  kLarge,      // some slope of a row is never small beside the row's errors
  kLikeLabel,  // as small as anything, but it is 0 only where w·t is
  kSmall,      // as small as anything
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

  // Whether the slopes of a row may all be so small that what underflows shows in its gradient.
  static constexpr Slopes kSlopes = Slopes::kLarge;

  // Of classes with |t| < 2^40, those that operator() serves.
  template <bool kLogits>
  HWY_INLINE M Serves(D d, const ClassAt<V>&) const {
    return AllLanes(d);
  }

  // Once a row of logits, with d = 1 + others: `row` becomes ClassAt::row. False where operator() does
  // not serve the row.
  HWY_INLINE M OfRow(D d, V /*others*/, V& row) const {
    row = hn::Zero(d);
    return AllLanes(d);
  }

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

// Watches a row's slopes (with class weights w): where none reaches the size beside which exponentials
// that underflow do not show, though not all of them are 0, the row is not served.
template <Slopes kSlopes, typename T>
class SlopeCheck {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  HWY_INLINE SlopeCheck() : largest_(hn::Zero(D())), alive_(hn::Zero(D())) {}

  HWY_INLINE void Add(V slope, V t, V w) {
    if constexpr (kSlopes == Slopes::kLarge) return;
    largest_ = hn::Max(largest_, hn::Abs(slope));
    alive_ = hn::Max(alive_, kSlopes == Slopes::kLikeLabel ? hn::Abs(hn::Mul(w, t)) : w);
  }
  // Each lane a row.
  HWY_INLINE hn::Mask<D> Passes() const {
    return hn::Or(hn::Ge(largest_, Enough()), hn::Eq(alive_, hn::Zero(D())));
  }
  // All lanes one row.
  HWY_INLINE bool Pass() const {
    return !hn::AllFalse(D(), hn::Ge(largest_, Enough())) ||
           hn::AllTrue(D(), hn::Eq(alive_, hn::Zero(D())));
  }

 private:
  // An exponential that underflows, times |ln p|, is at most 1e-7 of it.
  static HWY_INLINE V Enough() {
    constexpr double kEnough = kSlopes == Slopes::kLarge ? 0 : sizeof(T) == 4 ? 0x1p-90 : 0x1p-950;
    return hn::Set(D(), static_cast<T>(kEnough));
  }
  V largest_, alive_;
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
    V max, sum, log_sum, max_not_p, state;
  };
  HWY_INLINE Row RowOf(D d, V max, V others) const {
    const V sum = hn::Add(others, hn::Set(d, T(1)));
    return {max, sum, LogOnePlus(d, others), hn::Div(others, sum), hn::Zero(d)};
  }

  // `e` is Exponential's, kept because it is dear.
  HWY_INLINE ClassAt<V> Predict(D d, const Row& row, V x, V e, V t) const {
    ClassAt<V> at;
    at.t = t;
    at.p = hn::Div(e, row.sum);
    at.not_p = hn::IfThenElse(hn::Eq(x, row.max), row.max_not_p, hn::Sub(hn::Set(d, T(1)), at.p));
    at.u = Exponent(d, x, row.max);
    at.log_p = hn::Sub(at.u.high, row.log_sum);
    at.row = row.state;
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
  at.u = {at.log_p, hn::Zero(d)};
  at.row = one;
  return at;
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_CLASS_TERMS_INL_H_
