// Any loss over classes, with rows in SIMD lanes, a copy a SIMD target.
#if defined(SOFTLOSS_KERNELS_CPU_CLASS_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_CLASS_COLUMNS_INL_H_
#undef SOFTLOSS_KERNELS_CPU_CLASS_COLUMNS_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_CLASS_COLUMNS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "hwy/highway.h"

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_terms-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// A vector of rows. The block's x becomes p and then the gradient, t becomes the slopes.
template <template <typename> class Term, bool kLogits, typename T>
class ColumnScorer {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

 public:
  explicit ColumnScorer(const ClassColumns<T>& block)
      : block_(block), term_(*block.spec, *block.parameters), softmax_(d_, *block.parameters) {}

  // True if it marked a row.
  HWY_INLINE bool Score(std::size_t r, const RowArrays<T>& rows) {
    x_ = block_.x + r;
    t_ = block_.t + r;
    e_ = block_.spare + r;
    served_ = AllLanes(d_);
    in_range_ = served_;
    typename Softmax<T>::Row shared{};
    if constexpr (kLogits) shared = Exponentials();
    slopes_ = SlopeCheck<Term<T>::kSlopes, T>();
    CompensatedSum<D> loss_sum(d_), slope_sum(d_), labels(d_);
    ForClasses([&](std::size_t c, std::size_t at) HWY_ATTR { Terms(c, at, shared); },
               [&] HWY_ATTR {
                 loss_sum.Add(loss_);
                 slope_sum.Add(slope_);
                 labels.Add(label_);
                 loss_ = slope_ = label_ = hn::Zero(d_);
               });
    V loss = loss_sum.Total(), pull = slope_sum.Total();
    if constexpr (kLogits) {
      const V lse = softmax_.LogSumExp(shared), z = hn::Mul(softmax_.z_loss(), lse);
      loss = hn::MulAdd(z, lse, loss);
      pull = hn::Sub(pull, hn::Add(z, z));
      served_ = hn::And(served_, slopes_.Passes());
    }
    // Products of large weights and terms may overflow, and NaN goes to the exact path too.
    served_ = hn::And(served_, hn::Lt(hn::Abs(loss), hn::Set(d_, std::numeric_limits<T>::max())));

    const V zero = hn::Zero(d_);
    const V weight = hn::Load(d_, rows.row_weight + r);
    const M active = hn::Gt(weight, zero);
    hn::Store(hn::IfThenElseZero(active, hn::Mul(weight, loss)), d_, rows.loss + r);
    if (block_.gradient) {
      hn::Store(hn::IfThenElseZero(active, Gradient(weight, active, pull)), d_,
                rows.gradient_square + r);
    }
    return Mark(r, rows, labels.Total());
  }

 private:
  template <class Body, class Flush>
  HWY_INLINE void ForClasses(Body body, Flush flush) {
    for (std::size_t c = 0; c < block_.classes;) {
      const std::size_t end = std::min(block_.classes, c + kClassesPerFlush);
      for (; c < end; ++c) body(c, c * block_.stride);
      flush();
    }
  }

  HWY_INLINE typename Softmax<T>::Row Exponentials() {
    const V one = hn::Set(d_, T(1)), huge = hn::Set(d_, kHugeLogit<T>);
    V max = hn::Load(d_, x_);
    for (std::size_t c = 0; c < block_.classes; ++c) {
      const V x = hn::Load(d_, x_ + c * block_.stride);
      max = hn::Max(max, x);
      served_ = hn::And(served_, hn::Lt(hn::Abs(x), huge));
    }
    CompensatedSum<D> others(d_);
    V part = hn::Zero(d_), maxima = part;
    ForClasses(
        [&](std::size_t, std::size_t at) HWY_ATTR {
          const V x = hn::Load(d_, x_ + at);
          const V e = softmax_.Exponential(d_, x, max);
          const M is_max = hn::Eq(x, max);
          part = hn::Add(part, hn::IfThenZeroElse(is_max, e));
          maxima = hn::Add(maxima, hn::IfThenElseZero(is_max, one));
          hn::Store(e, d_, e_ + at);
        },
        [&] HWY_ATTR {
          others.Add(part);
          part = hn::Zero(d_);
        });
    const V all_others = hn::Add(others.Total(), hn::Sub(maxima, one));
    typename Softmax<T>::Row shared = softmax_.RowOf(d_, max, all_others);
    served_ = hn::And(served_, term_.OfRow(d_, all_others, shared.state));
    return shared;
  }

  HWY_INLINE void Terms(std::size_t c, std::size_t at, const typename Softmax<T>::Row& shared) {
    const V x = hn::Load(d_, x_ + at), t = hn::Load(d_, t_ + at);
    ClassAt<V> cls;
    if constexpr (kLogits) {
      cls = softmax_.Predict(d_, shared, x, hn::Load(d_, e_ + at), t);
    } else {
      served_ = hn::And(served_, InUnitInterval(d_, x));
      cls = PredictGiven(d_, x, t);
    }
    served_ = hn::And(served_, hn::And(term_.template Serves<kLogits>(d_, cls),
                                       hn::Lt(hn::Abs(t), hn::Set(d_, kHugeLabel<T>))));
    in_range_ = hn::And(in_range_, InUnitInterval(d_, t));
    TermAt<V> term = term_.template operator()<kLogits>(d_, cls);
    V weight = hn::Set(d_, T(1));
    if (block_.class_weight != nullptr) {
      weight = hn::Set(d_, block_.class_weight[c]);
      term = {hn::Mul(weight, term.loss), hn::Mul(weight, term.slope)};
    }
    slopes_.Add(term.slope, t, weight);
    loss_ = hn::Add(loss_, term.loss);
    slope_ = hn::Add(slope_, term.slope);
    label_ = hn::Add(label_, t);
    if (!block_.gradient) return;
    hn::Store(cls.p, d_, x_ + at);
    hn::Store(term.slope, d_, t_ + at);
  }

  // Returns its sum of squares, without the weight.
  HWY_INLINE V Gradient(V weight, M active, V pull) {
    V square = hn::Zero(d_);
    ForClasses(
        [&](std::size_t, std::size_t at) HWY_ATTR {
          const V p = hn::Load(d_, x_ + at), slope = hn::Load(d_, t_ + at);
          const V g =
              kLogits ? hn::Mul(hn::NegMulAdd(p, pull, slope), softmax_.rate()) : hn::Div(slope, p);
          square = hn::MulAdd(g, g, square);
          hn::Store(hn::IfThenElseZero(active, hn::Mul(weight, g)), d_, x_ + at);
        },
        [] {});
    return square;
  }

  HWY_INLINE bool Mark(std::size_t r, const RowArrays<T>& rows, V label_sum) {
    const V count = hn::Set(d_, T(kCount)), rescore = hn::Set(d_, T(kRescore));
    V mark;
    if (block_.check_labels) {
      hn::Store(label_sum, d_, rows.label_sum + r);
      hn::Store(label_sum, d_, rows.class_weighted + r);
      mark = hn::IfThenZeroElse(in_range_, count);
    } else {
      mark = hn::Load(d_, rows.unusual + r);
    }
    hn::Store(hn::IfThenElse(served_, mark, rescore), d_, rows.unusual + r);
    return !hn::AllTrue(d_, hn::And(served_, hn::Or(in_range_, MaskOf(!block_.check_labels))));
  }

  HWY_INLINE M MaskOf(bool value) const { return value ? AllLanes(d_) : NoLanes(d_); }

  const D d_{};
  const ClassColumns<T>& block_;
  const Term<T> term_;
  const Softmax<T> softmax_;
  T* x_ = nullptr;
  T* t_ = nullptr;
  T* e_ = nullptr;
  M served_ = AllLanes(d_), in_range_ = served_;
  V loss_ = hn::Zero(d_), slope_ = loss_, label_ = loss_;
  SlopeCheck<Term<T>::kSlopes, T> slopes_;
};

template <template <typename> class Term, bool kLogits, typename T>
bool ScoreColumns(const ClassColumns<T>& block, const RowArrays<T>& rows) {
  ColumnScorer<Term, kLogits, T> scorer(block);
  bool marked = false;
  for (std::size_t r = 0; r < block.rows; r += hn::Lanes(Tag<T>())) {
    marked |= scorer.Score(r, rows);
  }
  return marked;
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOFTLOSS_KERNELS_CPU_CLASS_COLUMNS_INL_H_
