// Any loss over classes, with a row's classes in SIMD lanes, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_CLASS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_CLASS_ROWS_INL_H_
#undef SOFTLOSS_KERNELS_CPU_CLASS_ROWS_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_CLASS_ROWS_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "hwy/highway.h"

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_terms-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Lanes are summed in the compute type for a few vectors, then in fp64.
template <typename T>
class LaneSum {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  HWY_INLINE LaneSum() : part_(hn::Zero(D())), sum_(D()) {}

  HWY_INLINE void Add(V v) { part_ = hn::Add(part_, v); }
  HWY_INLINE void Flush() {
    sum_.Add(D(), part_);
    part_ = hn::Zero(D());
  }
  HWY_INLINE double Total() const { return sum_.Total(); }

 private:
  V part_;
  WideSum<D> sum_;
};

template <template <typename> class Term, bool kLogits, typename T>
class RowScorer {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

 public:
  explicit RowScorer(const ClassRow<T>& row)
      : row_(row),
        walk_(row.classes),
        term_(*row.spec, *row.parameters),
        softmax_(d_, *row.parameters) {}

  HWY_INLINE ClassRowResult<T> Score() {
    ClassRowResult<T> result;
    if constexpr (kLogits) {
      if (!Exponentials()) {
        result.usable = false;
        result.label_sum = LabelSum();
        return result;
      }
    }
    Walk([&](std::size_t i, bool all) HWY_ATTR { Terms(i, all); },
         [&] HWY_ATTR {
           loss_.Flush();
           slope_.Flush();
           label_.Flush();
         });
    double loss = loss_.Total(), pull = slope_.Total();
    if constexpr (kLogits) {
      const auto lse = static_cast<double>(hn::GetLane(softmax_.LogSumExp(shared_)));
      const auto z = static_cast<double>(hn::GetLane(softmax_.z_loss())) * lse;
      loss += z * lse;
      pull -= 2 * z;
      result.usable = slopes_.Pass();
    }
    result.loss = static_cast<T>(loss);
    result.label_sum = static_cast<T>(label_.Total());
    result.in_range = hn::AllTrue(d_, in_range_);
    // Products of large weights and terms may overflow, and NaN goes to the exact path too.
    result.usable &= hn::AllTrue(d_, served_) && std::isfinite(result.loss);
    if (row_.gradient != nullptr && result.usable) {
      result.gradient_square = Gradient(static_cast<T>(pull));
    }
    return result;
  }

 private:
  // body(i, whether all lanes are new): the lanes that are not give the same results again.
  template <class Body, class Flush>
  HWY_INLINE void Walk(Body body, Flush flush) const {
    walk_.ForEach([&](std::size_t i) HWY_ATTR { body(i, true); },
                  [&](std::size_t i) HWY_ATTR { body(i, false); }, flush);
  }
  HWY_INLINE V Fresh(V v, bool all) const { return all ? v : hn::IfThenElseZero(walk_.fresh, v); }

  // False if the row is not for vectors.
  HWY_INLINE bool Exponentials() {
    const V one = hn::Set(d_, T(1)), huge = hn::Set(d_, kHugeLogit<T>);
    V max_lanes = hn::LoadU(d_, row_.x);
    Walk(
        [&](std::size_t i, bool) HWY_ATTR {
          const V x = hn::LoadU(d_, row_.x + i);
          max_lanes = hn::Max(max_lanes, x);
          served_ = hn::And(served_, hn::Lt(hn::Abs(x), huge));
        },
        [] {});
    if (!hn::AllTrue(d_, served_)) return false;
    const V max = hn::MaxOfLanes(d_, max_lanes);
    LaneSum<T> others, maxima;
    Walk(
        [&](std::size_t i, bool all) HWY_ATTR {
          const V x = hn::LoadU(d_, row_.x + i);
          const V e = softmax_.Exponential(d_, x, max);
          const M is_max = hn::Eq(x, max);
          others.Add(Fresh(hn::IfThenZeroElse(is_max, e), all));
          maxima.Add(Fresh(hn::IfThenElseZero(is_max, one), all));
          hn::StoreU(e, d_, row_.spare + i);
        },
        [&] HWY_ATTR {
          others.Flush();
          maxima.Flush();
        });
    const V all_others = hn::Set(d_, static_cast<T>(others.Total() + (maxima.Total() - 1)));
    shared_ = softmax_.RowOf(d_, max, all_others);
    return hn::AllTrue(d_, term_.OfRow(d_, all_others, shared_.state));
  }

  HWY_INLINE void Terms(std::size_t i, bool all) {
    const V x = hn::LoadU(d_, row_.x + i), t = hn::LoadU(d_, row_.t + i);
    ClassAt<V> cls;
    if constexpr (kLogits) {
      cls = softmax_.Predict(d_, shared_, x, hn::LoadU(d_, row_.spare + i), t);
    } else {
      served_ = hn::And(served_, InUnitInterval(d_, x));
      cls = PredictGiven(d_, x, t);
    }
    served_ = hn::And(served_, hn::And(term_.template Serves<kLogits>(d_, cls),
                                       hn::Lt(hn::Abs(t), hn::Set(d_, kHugeLabel<T>))));
    in_range_ = hn::And(in_range_, InUnitInterval(d_, t));
    TermAt<V> term = term_.template operator()<kLogits>(d_, cls);
    V weight = hn::Set(d_, T(1));
    if (row_.class_weight != nullptr) {
      weight = hn::LoadU(d_, row_.class_weight + i);
      term = {hn::Mul(weight, term.loss), hn::Mul(weight, term.slope)};
    }
    slopes_.Add(term.slope, t, weight);
    loss_.Add(Fresh(term.loss, all));
    slope_.Add(Fresh(term.slope, all));
    label_.Add(Fresh(t, all));
    if (row_.gradient != nullptr) hn::StoreU(term.slope, d_, row_.gradient + i);
  }

  // What Score gives, where it gives up before the terms.
  HWY_INLINE T LabelSum() {
    Walk([&](std::size_t i, bool all)
             HWY_ATTR { label_.Add(Fresh(hn::LoadU(d_, row_.t + i), all)); },
         [&] HWY_ATTR { label_.Flush(); });
    return static_cast<T>(label_.Total());
  }

  // From slopes to gradients. Returns the sum of squares, without the row weight.
  HWY_INLINE T Gradient(T pull) {
    const V pulls = hn::Set(d_, pull), weight = hn::Set(d_, row_.row_weight);
    LaneSum<T> square;
    // Read before the vectors that it overlaps are overwritten.
    const V tail = hn::LoadU(d_, row_.gradient + walk_.tail);
    Walk(
        [&](std::size_t i, bool all) HWY_ATTR {
          const V slope = all ? hn::LoadU(d_, row_.gradient + i) : tail;
          V g;
          if constexpr (kLogits) {
            const V p = hn::Div(hn::LoadU(d_, row_.spare + i), shared_.sum);
            g = hn::Mul(hn::NegMulAdd(p, pulls, slope), softmax_.rate());
          } else {
            g = hn::Div(slope, PredictGiven(d_, hn::LoadU(d_, row_.x + i), slope).p);
          }
          const V counted = Fresh(g, all);
          square.Add(hn::Mul(counted, counted));
          hn::StoreU(hn::Mul(weight, g), d_, row_.gradient + i);
        },
        [&] HWY_ATTR { square.Flush(); });
    return static_cast<T>(square.Total());
  }

  const D d_{};
  const ClassRow<T>& row_;
  const RowWalk<T> walk_;
  const Term<T> term_;
  const Softmax<T> softmax_;
  typename Softmax<T>::Row shared_{};
  M served_ = AllLanes(d_), in_range_ = served_;
  SlopeCheck<Term<T>::kSlopes, T> slopes_;
  LaneSum<T> loss_, slope_, label_;
};

template <template <typename> class Term, bool kLogits, typename T>
ClassRowResult<T> ScoreRow(const ClassRow<T>& row) {
  return RowScorer<Term, kLogits, T>(row).Score();
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_CLASS_ROWS_INL_H_
