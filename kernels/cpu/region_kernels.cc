#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/region_kernels.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/region_kernels.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// An element: s, ∂s/∂x and s - t, the last from the side on which nothing has lost its digits.
template <class V>
struct RegionElement {
  V s, t, rate, distance;
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE V NaNUnless(D d, hn::Mask<D> good, V v) {
  return hn::IfThenElse(good, v, hn::NaN(d));
}

// How a column's x become predictions, and which of them are as they should be.
template <typename T>
struct OfSigmoid {
  using D = Tag<T>;
  using V = hn::Vec<D>;

  static HWY_INLINE RegionElement<V> At(D d, V x, V t, V not_t) {
    const V one = hn::Set(d, T(1));
    const V e = ExpNonPositive(d, hn::Neg(hn::Abs(x)));
    const V both = hn::Add(one, e);
    const V large = hn::Div(one, both), small = hn::Div(e, both);
    const auto positive = hn::Ge(x, hn::Zero(d));
    const auto number = hn::Eq(x, x);
    const V s = NaNUnless(d, number, hn::IfThenElse(positive, large, small));
    const V not_s = hn::IfThenElse(positive, small, large);
    const V distance = hn::IfThenElse(positive, hn::Sub(not_t, not_s), hn::Sub(s, t));
    return {s, t, hn::Mul(large, small), NaNUnless(d, number, distance)};
  }
  static HWY_INLINE hn::Mask<D> IsUsual(D d, V x) { return hn::Lt(hn::Abs(x), hn::Inf(d)); }
};

template <typename T>
struct OfProbability {
  using D = Tag<T>;
  using V = hn::Vec<D>;

  static HWY_INLINE RegionElement<V> At(D d, V x, V t, V) {
    const V s = NaNUnless(d, InUnitInterval(d, x), x);
    return {s, t, hn::Set(d, T(1)), hn::Sub(s, t)};
  }
  static HWY_INLINE hn::Mask<D> IsUsual(D d, V x) { return InUnitInterval(d, x); }
};

// What `predict` made.
template <typename T>
struct OfPredicted {
  using D = Tag<T>;
  using V = hn::Vec<D>;

  static HWY_INLINE RegionElement<V> At(D d, V s, V t, V) {
    return {s, t, hn::Set(d, T(1)), hn::Sub(s, t)};
  }
};

template <typename T>
inline constexpr bool kIsPredicted = false;
template <typename T>
inline constexpr bool kIsPredicted<OfPredicted<T>> = true;

template <class Predict, typename T>
class RegionColumns {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

 public:
  explicit RegionColumns(const RegionBlock<T>& block) : block_(block) {}

  bool Sums(RegionSums* sums) const {
    const D d;
    M usual = AllLanes(d);
    for (std::size_t c = 0; c < block_.classes; ++c) {
      const T* const x = block_.x + c * block_.stride;
      const T* const t = block_.t + c * block_.stride;
      WideSum<D> both(d), over(d), under(d);
      V count = hn::Zero(d);
      for (std::size_t r = 0; r < block_.positions; r += hn::Lanes(d)) {
        const V weight = hn::Load(d, block_.row_weight + r);
        const V label = hn::Load(d, t + r), input = hn::Load(d, x + r);
        const M counts = hn::AndNot(IsIgnored(label), hn::Ge(weight, hn::Zero(d)));
        const M active = hn::And(counts, hn::Gt(weight, hn::Zero(d)));
        const RegionElement<V> at = Element(input, label);
        const V positive = hn::IfThenElseZero(hn::Gt(at.distance, hn::Zero(d)), at.distance);
        // `under` hands NaN on.
        over.Add(d, hn::IfThenElseZero(active, hn::Mul(weight, positive)));
        under.Add(d, hn::IfThenElseZero(active, hn::Mul(weight, hn::Sub(positive, at.distance))));
        const V lesser = hn::IfThenElse(hn::Gt(at.distance, hn::Zero(d)), at.t, at.s);
        both.Add(d, hn::IfThenElseZero(active, hn::Mul(weight, lesser)));
        count = hn::Add(count, hn::IfThenElseZero(counts, hn::Set(d, T(1))));
        if constexpr (!kIsPredicted<Predict>) {
          const M fine = hn::And(Predict::IsUsual(d, input), InUnitInterval(d, label));
          usual = hn::And(usual, hn::Or(fine, hn::Not(active)));
        }
      }
      sums[c] += {both.Total(), over.Total(), under.Total(),
                  static_cast<double>(hn::GetLane(hn::SumOfLanes(d, count)))};
    }
    return !hn::AllTrue(d, usual);
  }

  double Gradient(const RegionSlopes<T>* slopes) const {
    const D d;
    double total = 0;
    for (std::size_t c = 0; c < block_.classes; ++c) {
      T* const x = block_.x + c * block_.stride;
      const T* const t = block_.t + c * block_.stride;
      const Slopes slope(slopes[c]);
      SquareSum squares;
      for (std::size_t r = 0; r < block_.positions; r += hn::Lanes(d)) {
        const V weight = hn::Load(d, block_.row_weight + r);
        const V label = hn::Load(d, t + r);
        const M active = hn::AndNot(IsIgnored(label), hn::Gt(weight, hn::Zero(d)));
        const RegionElement<V> at = Element(hn::Load(d, x + r), label);
        const V g = hn::Mul(hn::Mul(weight, slope.At(at.distance)), at.rate);
        const V kept = hn::IfThenElseZero(active, g);
        squares.Add(kept);
        hn::Store(kept, d, x + r);
      }
      total += squares.Total();
    }
    return total;
  }

  // q = s·∂L/∂s, then q - s·Σq.
  double GradientOfSoftmax(const RegionSlopes<T>* slopes) const {
    const D d;
    SquareSum squares;
    for (std::size_t r = 0; r < block_.positions; r += hn::Lanes(d)) {
      const V weight = hn::Load(d, block_.row_weight + r);
      const M active = hn::Gt(weight, hn::Zero(d));
      CompensatedSum<D> sum(d);
      for (std::size_t c = 0; c < block_.classes;) {
        V part = hn::Zero(d);
        const std::size_t end = std::min(block_.classes, c + kClassesPerFlush);
        for (; c < end; ++c) {
          const std::size_t i = c * block_.stride + r;
          const V s = hn::Load(d, block_.x + i);
          const V distance = hn::Sub(s, hn::Load(d, block_.t + i));
          const V q = hn::Mul(s, Slopes(slopes[c]).At(distance));
          part = hn::Add(part, q);
          hn::Store(q, d, block_.t + i);
        }
        sum.Add(part);
      }
      const V pull = sum.Total();
      for (std::size_t c = 0; c < block_.classes; ++c) {
        const std::size_t i = c * block_.stride + r;
        const V q = hn::Load(d, block_.t + i), s = hn::Load(d, block_.x + i);
        const V g = hn::Mul(weight, hn::NegMulAdd(s, pull, q));
        const V kept = hn::IfThenElseZero(active, g);
        squares.Add(kept);
        hn::Store(kept, d, block_.x + i);
      }
    }
    return squares.Total();
  }

 private:
#if HWY_TARGET == HWY_SCALAR
  using Wide = hn::Rebind<double, D>;
#else
  using Wide = hn::Repartition<double, D>;
#endif

  // In fp64, so that squares of small gradients do not underflow.
  class SquareSum {
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
    hn::Vec<Wide> low_, high_;
  };

  struct Slopes {
    explicit HWY_INLINE Slopes(const RegionSlopes<T>& s)
        : above(hn::Set(D(), s.above)),
          below(hn::Set(D(), s.below)),
          level(hn::Set(D(), s.level)) {}
    HWY_INLINE V At(V distance) const {
      const V zero = hn::Zero(D());
      return hn::IfThenElse(hn::Gt(distance, zero), above,
                            hn::IfThenElse(hn::Lt(distance, zero), below, level));
    }
    V above, below, level;
  };

  HWY_INLINE RegionElement<V> Element(V x, V t) const {
    const D d;
    V not_t = hn::Sub(hn::Set(d, T(1)), t);
    if (block_.smoothing > 0) {
      const V keep = hn::Set(d, T(1) - block_.smoothing), half = hn::Set(d, block_.smoothing / 2);
      t = hn::MulAdd(keep, t, half);
      not_t = hn::MulAdd(keep, not_t, half);
    }
    return Predict::At(d, x, t, not_t);
  }

  HWY_INLINE M IsIgnored(V t) const {
    const D d;
    if (block_.ignore == nullptr) return NoLanes(d);
    const V value = hn::Set(d, *block_.ignore);
    return hn::Or(hn::Eq(t, value), hn::And(hn::Ne(t, t), hn::Ne(value, value)));
  }

  const RegionBlock<T>& block_;
};

// Logits to softmax(x), in place.
template <typename T>
bool PredictSoftmax(const RegionBlock<T>& block) {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;
  const D d;
  const V huge = hn::Set(d, kHugeLogit<T>);
  M all_served = AllLanes(d);
  for (std::size_t r = 0; r < block.positions; r += hn::Lanes(d)) {
    T* const x = block.x + r;
    V max = hn::Load(d, x);
    M served = AllLanes(d);
    for (std::size_t c = 0; c < block.classes; ++c) {
      const V v = hn::Load(d, x + c * block.stride);
      max = hn::Max(max, v);
      served = hn::And(served, hn::Lt(hn::Abs(v), huge));
    }
    const RelativeExp<D> exponential(d, max);
    CompensatedSum<D> sum(d);
    for (std::size_t c = 0; c < block.classes;) {
      V part = hn::Zero(d);
      const std::size_t end = std::min(block.classes, c + kClassesPerFlush);
      for (; c < end; ++c) {
        const V e = exponential(d, hn::Load(d, x + c * block.stride));
        part = hn::Add(part, e);
        hn::Store(e, d, x + c * block.stride);
      }
      sum.Add(part);
    }
    const V scale = hn::Div(hn::Set(d, T(1)), sum.Total());
    for (std::size_t c = 0; c < block.classes; ++c) {
      const V e = hn::Load(d, x + c * block.stride);
      hn::Store(hn::Mul(e, scale), d, x + c * block.stride);
    }
    const M idle = hn::Le(hn::Load(d, block.row_weight + r), hn::Zero(d));
    served = hn::Or(served, idle);
    hn::Store(hn::IfThenZeroElse(served, hn::Set(d, T(1))), d, block.unusual + r);
    all_served = hn::And(all_served, served);
  }
  return !hn::AllTrue(d, all_served);
}

template <typename T>
bool PredictGiven(const RegionBlock<T>& block) {
  using D = Tag<T>;
  using M = hn::Mask<D>;
  const D d;
  M all_served = AllLanes(d);
  for (std::size_t r = 0; r < block.positions; r += hn::Lanes(d)) {
    M served = AllLanes(d);
    for (std::size_t c = 0; c < block.classes; ++c) {
      served = hn::And(served, InUnitInterval(d, hn::Load(d, block.x + c * block.stride + r)));
    }
    const M idle = hn::Le(hn::Load(d, block.row_weight + r), hn::Zero(d));
    served = hn::Or(served, idle);
    hn::Store(hn::IfThenZeroElse(served, hn::Set(d, T(1))), d, block.unusual + r);
    all_served = hn::And(all_served, served);
  }
  return !hn::AllTrue(d, all_served);
}

template <class Predict, typename T>
bool Sums(const RegionBlock<T>& block, RegionSums* sums) {
  return RegionColumns<Predict, T>(block).Sums(sums);
}
template <class Predict, typename T>
double Gradient(const RegionBlock<T>& block, const RegionSlopes<T>* slopes) {
  return RegionColumns<Predict, T>(block).Gradient(slopes);
}
template <typename T>
double GradientOfSoftmax(const RegionBlock<T>& block, const RegionSlopes<T>* slopes) {
  return RegionColumns<OfPredicted<T>, T>(block).GradientOfSoftmax(slopes);
}

template <typename T>
RegionKernels<T> Find(Activation activation, PredictionKind kind) {
  const bool logits = kind == PredictionKind::kLogits;
  if (activation == Activation::kSoftmax) {
    return {logits ? &PredictSoftmax<T> : &PredictGiven<T>, &Sums<OfPredicted<T>, T>,
            logits ? &GradientOfSoftmax<T> : &Gradient<OfPredicted<T>, T>};
  }
  if (logits) return {nullptr, &Sums<OfSigmoid<T>, T>, &Gradient<OfSigmoid<T>, T>};
  return {nullptr, &Sums<OfProbability<T>, T>, &Gradient<OfProbability<T>, T>};
}

RegionKernels<float> FindF32(Activation activation, PredictionKind kind) {
  return Find<float>(activation, kind);
}
RegionKernels<double> FindF64(Activation activation, PredictionKind kind) {
  return Find<double>(activation, kind);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(FindF32);
HWY_EXPORT(FindF64);

template <>
RegionKernels<float> FindRegionKernels<float>(Activation activation, PredictionKind kind) {
  return HWY_DYNAMIC_DISPATCH(FindF32)(activation, kind);
}
template <>
RegionKernels<double> FindRegionKernels<double>(Activation activation, PredictionKind kind) {
  return HWY_DYNAMIC_DISPATCH(FindF64)(activation, kind);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
