#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/element_loss.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/element_loss.h"
#include "kernels/cpu/element_terms-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Squares in fp64, so that those of small gradients do not underflow.
template <typename T>
class SquareSum {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  HWY_INLINE SquareSum() : low_(hn::Zero(Wide())), high_(low_) {}

  HWY_INLINE void Add(V v) {
    if constexpr (sizeof(T) == 8) {
      low_ = hn::MulAdd(v, v, low_);
    } else {
#if HWY_TARGET == HWY_SCALAR
      const auto wide = hn::PromoteTo(Wide(), v);
      low_ = hn::MulAdd(wide, wide, low_);
#else
      const hn::Half<D> half;
      const auto low = hn::PromoteTo(Wide(), hn::LowerHalf(half, v));
      const auto high = hn::PromoteTo(Wide(), hn::UpperHalf(half, v));
      low_ = hn::MulAdd(low, low, low_);
      high_ = hn::MulAdd(high, high, high_);
#endif
    }
  }
  HWY_INLINE double Total() const {
    return hn::GetLane(hn::SumOfLanes(Wide(), hn::Add(low_, high_)));
  }

 private:
#if HWY_TARGET == HWY_SCALAR
  using Wide = hn::Rebind<double, D>;
#else
  using Wide = hn::Repartition<double, D>;
#endif
  hn::Vec<Wide> low_, high_;
};

template <template <typename> class Term, bool kLogits, typename T>
class ElementKernel {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

 public:
  ElementKernel(const SigmoidRun<T>& run, const LossSpec& spec, Tally& tally)
      : run_(run), spec_(spec), tally_(tally), term_(ParametersOf(spec)) {}

  void Run(LeafSum& sum) {
    const std::size_t lanes = hn::Lanes(d_);
    const std::size_t whole = run_.n / lanes * lanes;
    for (std::size_t i = 0; i < whole;) {
      const std::size_t end = std::min(whole, i + kVectorsPerFlush * lanes);
      for (; i < end; i += lanes) Vector(run_, i, lanes);
      Flush();
    }
    if (whole < run_.n) Tail(whole);
    sum.loss += loss_.Total();
    if (run_.gradient != nullptr) sum.gradient_square += square_.Total();
    sum.weight += weight_.Total();
  }

 private:
  // The last elements, padded to a vector.
  HWY_NOINLINE void Tail(std::size_t begin) {
    const std::size_t n = run_.n - begin;
    HWY_ALIGN T in[4][16] = {};
    HWY_ALIGN T out[2][16];
    const auto copy = [&](const T* from, T* to) -> const T* {
      if (from == nullptr) return nullptr;
      std::memcpy(to, reinterpret_cast<const std::byte*>(from) + begin * sizeof(T), n * sizeof(T));
      return to;
    };
    const auto copy_back = [&](const T* from, T* to) {
      if (to == nullptr) return;
      std::memcpy(reinterpret_cast<std::byte*>(to) + begin * sizeof(T), from, n * sizeof(T));
    };
    SigmoidRun<T> run = run_;
    run.x = copy(run_.x, in[0]);
    run.t = copy(run_.t, in[1]);
    run.weight = copy(run_.weight, in[2]);
    run.pos_weight = copy(run_.pos_weight, in[3]);
    if (run.gradient != nullptr) run.gradient = out[0];
    if (run.loss != nullptr) run.loss = out[1];
    Vector(run, 0, n);
    Flush();
    copy_back(out[0], run_.gradient);
    copy_back(out[1], run_.loss);
  }

  // Scores the vector at `i`, of which the first `count` lanes exist.
  HWY_INLINE void Vector(const SigmoidRun<T>& run, std::size_t i, std::size_t count) {
    const V zero = hn::Zero(d_), one = hn::Set(d_, T(1));
    const V x = hn::LoadU(d_, run.x + i), t = hn::LoadU(d_, run.t + i);
    V weight = run.weight ? hn::LoadU(d_, run.weight + i) : one;
    // Codes of elements that are not scored are negative.
    M skipped = hn::Lt(weight, zero);
    M valid = hn::Or(hn::Ge(weight, zero), hn::Eq(weight, hn::Set(d_, T(kZeroRowWeight))));
    if (run.ignore.has_value()) {
      const V ignore = hn::Set(d_, *run.ignore);
      const M ignored = hn::Or(hn::Eq(t, ignore), hn::And(IsNaN(t), IsNaN(ignore)));
      skipped = hn::Or(skipped, ignored);
      valid = hn::AndNot(ignored, valid);
    }
    if (count < hn::Lanes(d_)) {
      const M exists = hn::FirstN(d_, count);
      skipped = hn::Or(skipped, hn::Not(exists));
      valid = hn::And(valid, exists);
    }
    tally_.valid += static_cast<std::int64_t>(hn::CountTrue(d_, valid));

    ElementAt<V> at;
    at.pos_weight = run.pos_weight ? hn::LoadU(d_, run.pos_weight + i) : one;
    at.t = t;
    at.not_t = hn::Sub(one, t);
    if (run.smoothing > 0) {
      const V keep = hn::Set(d_, T(1) - run.smoothing), half = hn::Set(d_, run.smoothing / 2);
      at.t = hn::MulAdd(keep, at.t, half);
      at.not_t = hn::MulAdd(keep, at.not_t, half);
    }
    M served = InUnitInterval(d_, t);
    if constexpr (kLogits) {
      served = hn::And(served, hn::Lt(hn::Abs(x), hn::Set(d_, kFarLogit<T>)));
      PredictFromLogit(d_, x, at);
    } else {
      served = hn::And(served, InUnitInterval(d_, x));
      PredictFromProbability(d_, x, at);
    }
    const ElementTerm<V> term = term_.template operator()<kLogits>(d_, at);
    const M factor_served = hn::Or(hn::Eq(term.factor, zero),
                                   hn::Ge(hn::Abs(term.factor), hn::Set(d_, kLeastFactor<T>)));
    served = hn::And(served, factor_served);
    weight = hn::IfThenZeroElse(skipped, weight);
    V loss = hn::Mul(weight, term.loss);
    V gradient = hn::Mul(hn::Mul(weight, term.factor), term.rest);
    served = hn::And(served, hn::Lt(hn::Abs(loss), hn::Set(d_, std::numeric_limits<T>::max())));
    loss = hn::IfThenZeroElse(skipped, loss);
    gradient = hn::IfThenZeroElse(skipped, gradient);
    if (HWY_UNLIKELY(!hn::AllTrue(d_, hn::Or(served, skipped)))) {
      Repair(run, i, hn::Or(served, skipped), weight, loss, gradient);
    }
    weight_sum_ = hn::Add(weight_sum_, weight);
    loss_sum_ = hn::Add(loss_sum_, loss);
    if (run.loss != nullptr) hn::StoreU(loss, d_, run.loss + i);
    if (run.gradient == nullptr) return;
    square_.Add(gradient);
    hn::StoreU(gradient, d_, run.gradient + i);
  }

  static HWY_INLINE M IsNaN(V v) { return hn::Not(hn::Eq(v, v)); }

  // Scores the lanes again that are not served, and counts what they hold.
  HWY_NOINLINE void Repair(const SigmoidRun<T>& run, std::size_t i, M served, V weight, V& loss,
                           V& gradient) {
    HWY_ALIGN T x[16], t[16], w[16], pi[16], l[16], g[16], keep[16];
    hn::Store(hn::LoadU(d_, run.x + i), d_, x);
    hn::Store(hn::LoadU(d_, run.t + i), d_, t);
    hn::Store(run.pos_weight ? hn::LoadU(d_, run.pos_weight + i) : hn::Set(d_, T(1)), d_, pi);
    hn::Store(weight, d_, w);
    hn::Store(loss, d_, l);
    hn::Store(gradient, d_, g);
    hn::Store(hn::IfThenElseZero(served, hn::Set(d_, T(1))), d_, keep);
    for (std::size_t j = 0; j < hn::Lanes(d_); ++j) {
      if (keep[j] != 0) continue;
      const reference::Row row = ScoreElementExactly(
          spec_, static_cast<double>(x[j]), static_cast<double>(t[j]), static_cast<double>(pi[j]));
      const reference::Real factor = w[j];
      l[j] = static_cast<T>(std::isnan(row.loss[0]) ? row.loss[0]
                                                    : reference::Term(factor, row.loss[0]));
      g[j] = static_cast<T>(factor * row.gradient[0]);
      tally_.nonfinite_predictions += row.tally.nonfinite_predictions;
      tally_.nonfinite_labels += row.tally.nonfinite_labels;
      tally_.out_of_range_labels += row.tally.out_of_range_labels;
      tally_.nonfinite_losses += !std::isfinite(l[j]);
    }
    loss = hn::Load(d_, l);
    gradient = hn::Load(d_, g);
  }

  HWY_INLINE void Flush() {
    loss_.Add(d_, loss_sum_);
    weight_.Add(d_, weight_sum_);
    loss_sum_ = weight_sum_ = hn::Zero(d_);
  }

  const D d_{};
  const SigmoidRun<T>& run_;
  const LossSpec& spec_;
  Tally& tally_;
  const Term<T> term_;
  V loss_sum_ = hn::Zero(d_), weight_sum_ = loss_sum_;
  WideSum<D> loss_{d_}, weight_{d_};
  SquareSum<T> square_;
};

template <template <typename> class Term, bool kLogits, typename T>
void Score(const SigmoidRun<T>& run, const LossSpec& spec, LeafSum& sum, Tally& tally) {
  ElementKernel<Term, kLogits, T>(run, spec, tally).Run(sum);
}

template <typename T>
ScoreElements<T> Find(const LossSpec& spec) {
  const bool logits = spec.prediction_kind == PredictionKind::kLogits;
  switch (spec.loss) {
    case Loss::kSigmoidCrossEntropy: return logits ? nullptr : &Score<BinaryCrossEntropy, false, T>;
    case Loss::kBinaryBrier:
      return logits ? &Score<BinaryBrier, true, T> : &Score<BinaryBrier, false, T>;
    case Loss::kQualityFocal:
      return logits ? &Score<QualityFocal, true, T> : &Score<QualityFocal, false, T>;
    default: return nullptr;
  }
}

ScoreElements<float> FindF32(const LossSpec& spec) { return Find<float>(spec); }
ScoreElements<double> FindF64(const LossSpec& spec) { return Find<double>(spec); }

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(FindF32);
HWY_EXPORT(FindF64);

reference::Row ScoreElementExactly(const LossSpec& spec, double x, double t, double pos_weight) {
  LossSpec bare = spec;
  bare.class_weight.clear();
  bare.class_mask.clear();
  bare.ignore_value.reset();
  if (!bare.pos_weight.empty()) bare.pos_weight = {static_cast<float>(pos_weight)};
  const ScoreKey key = {.loss = spec.loss};
  const reference::Real prediction = x, label = t;
  return reference::ScoreRow(key, bare, {&prediction, 1}, {&label, 1}, 1);
}

template <>
ScoreElements<float> FindElementLoss<float>(const LossSpec& spec) {
  return HWY_DYNAMIC_DISPATCH(FindF32)(spec);
}
template <>
ScoreElements<double> FindElementLoss<double>(const LossSpec& spec) {
  return HWY_DYNAMIC_DISPATCH(FindF64)(spec);
}

bool ServesElements(const LossSpec& spec) {
  return spec.loss == Loss::kSigmoidCrossEntropy || FindElementLoss<float>(spec) != nullptr;
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
