#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_columns.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/softmax_columns.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Classes whose terms are added before they join the row's compensated sum. With one big term and
// many small ones, every plain addition may cost half a unit in the last place of the sum.
inline constexpr std::size_t kClassesPerFlush = 4;

template <class D>
HWY_INLINE hn::Mask<D> InUnitInterval(D d, hn::Vec<D> t) {
  return hn::And(hn::Ge(t, hn::Zero(d)), hn::Le(t, hn::Set(d, hn::TFromD<D>(1))));
}

template <typename T>
bool Transform(const LabelTransform<T>& transform, const SoftmaxColumns<T>& block,
               const RowArrays<T>& rows) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  using M = hn::Mask<Tag<T>>;
  const V zero = hn::Zero(d), one = hn::Set(d, T(1));
  const std::size_t classes = block.classes;
  M any_unusual = NoLanes(d);
  for (std::size_t r = 0; r < block.rows; r += hn::Lanes(d)) {
    T* const t = block.t + r;
    const auto sum_labels = [&] HWY_ATTR {
      CompensatedSum<Tag<T>> sum(d);
      for (std::size_t c = 0; c < classes;) {
        V part = zero;
        const std::size_t end = std::min(classes, c + kClassesPerFlush);
        for (; c < end; ++c) part = hn::Add(part, hn::Load(d, t + c * block.stride));
        sum.Add(part);
      }
      return sum.Total();
    };
    if (transform.row_sum) {
      const V divisor = hn::Max(sum_labels(), one);
      for (std::size_t c = 0; c < classes; ++c) {
        T* const p = t + c * block.stride;
        hn::Store(hn::Div(hn::Load(d, p), divisor), d, p);
      }
    }
    M usual = AllLanes(d);
    M ignored = usual;
    for (std::size_t c = 0; c < classes; ++c) {
      const V v = hn::Load(d, t + c * block.stride);
      usual = hn::And(usual, InUnitInterval(d, v));
      if (transform.ignore == nullptr) continue;
      const V value = hn::Set(d, *transform.ignore);
      const M both_nan = hn::And(hn::Not(hn::Eq(v, v)), hn::Not(hn::Eq(value, value)));
      ignored = hn::And(ignored, hn::Or(hn::Eq(v, value), both_nan));
    }
    if (transform.ignore != nullptr) {
      const V weight = hn::Load(d, rows.row_weight + r);
      hn::Store(hn::IfThenElse(ignored, hn::Set(d, T(-1)), weight), d, rows.row_weight + r);
    }
    const V sum = sum_labels();
    const V divisor = hn::IfThenElse(hn::Eq(sum, zero), one, sum);
    const V keep = hn::Set(d, T(1) - transform.smoothing);
    const V uniform = hn::Set(d, transform.smoothing / static_cast<T>(classes));
    CompensatedSum<Tag<T>> class_weighted(d);
    for (std::size_t c = 0; c < classes;) {
      V part = zero;
      const std::size_t end = std::min(classes, c + kClassesPerFlush);
      for (; c < end; ++c) {
        T* const p = t + c * block.stride;
        V v = hn::Load(d, p);
        if (transform.renormalize) v = hn::Div(v, divisor);
        const V weight = transform.class_weight ? hn::Set(d, transform.class_weight[c]) : one;
        part = hn::MulAdd(weight, v, part);
        if (transform.smoothing > 0) v = hn::MulAdd(keep, v, uniform);
        hn::Store(hn::Mul(weight, v), d, p);
      }
      class_weighted.Add(part);
    }
    hn::Store(sum, d, rows.label_sum + r);
    hn::Store(class_weighted.Total(), d, rows.class_weighted + r);
    hn::Store(hn::IfThenZeroElse(usual, one), d, rows.unusual + r);
    any_unusual = hn::Or(any_unusual, hn::Not(usual));
  }
  return !hn::AllFalse(d, any_unusual);
}

template <typename T>
bool Score(const SoftmaxColumns<T>& block, const RowArrays<T>& rows) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  using M = hn::Mask<Tag<T>>;
  const V zero = hn::Zero(d), one = hn::Set(d, T(1));
  const V huge_logit = hn::Set(d, kHugeLogit<T>), huge_label = hn::Set(d, kHugeLabel<T>);
  const std::size_t classes = block.classes, stride = block.stride;
  M any_unusual = NoLanes(d);
  for (std::size_t r = 0; r < block.rows; r += hn::Lanes(d)) {
    T* const x = block.x + r;
    const T* const t = block.t + r;

    V max = hn::Load(d, x);
    M usual = AllLanes(d);
    for (std::size_t c = 0; c < classes; ++c) {
      const V v = hn::Load(d, x + c * stride);
      max = hn::Max(max, v);
      usual = hn::And(usual, hn::Lt(hn::Abs(v), huge_logit));
    }

    const RelativeExp<Tag<T>> exp(d, max);
    V maxima = zero;
    CompensatedSum<Tag<T>> others_sum(d), dot_sum(d), labels(d);
    M in_range = usual;
    for (std::size_t c = 0; c < classes;) {
      V others_part = zero, dot_part = zero, label_part = zero;
      const std::size_t end = std::min(classes, c + kClassesPerFlush);
      for (; c < end; ++c) {
        const V v = hn::Load(d, x + c * stride);
        const V target = hn::Load(d, t + c * stride);
        const V e = exp(d, v);
        const M is_max = hn::Eq(v, max);
        others_part = hn::Add(others_part, hn::IfThenZeroElse(is_max, e));
        maxima = hn::Add(maxima, hn::IfThenElseZero(is_max, one));
        dot_part = hn::MulAdd(target, hn::Sub(max, v), dot_part);
        label_part = hn::Add(label_part, target);
        usual = hn::And(usual, hn::Lt(hn::Abs(target), huge_label));
        in_range = hn::And(in_range, InUnitInterval(d, target));
        if (block.gradient) hn::Store(e, d, x + c * stride);
      }
      others_sum.Add(others_part);
      dot_sum.Add(dot_part);
      labels.Add(label_part);
    }
    const V others = others_sum.Total(), dot = dot_sum.Total(), label_sum = labels.Total();

    // e carries the factor c of RelativeExp, which is e of the maximum itself.
    const V e_max = exp(d, max);
    const V log_d = LogOnePlus(d, hn::Add(hn::Div(others, e_max), hn::Sub(maxima, one)));
    const V weight = hn::Load(d, rows.row_weight + r);
    const M active = hn::Gt(weight, zero);
    const V loss = hn::Mul(weight, hn::MulAdd(label_sum, log_d, dot));
    hn::Store(hn::IfThenElseZero(active, loss), d, rows.loss + r);
    if (block.check_labels) {
      hn::Store(label_sum, d, rows.label_sum + r);
      hn::Store(label_sum, d, rows.class_weighted + r);
      usual = hn::And(usual, in_range);
      hn::Store(hn::IfThenZeroElse(usual, one), d, rows.unusual + r);
    } else {
      const V before = hn::Load(d, rows.unusual + r);
      hn::Store(hn::IfThenElse(usual, before, one), d, rows.unusual + r);
    }
    any_unusual = hn::Or(any_unusual, hn::Not(usual));

    if (!block.gradient) continue;
    const V scale = hn::Div(label_sum, hn::MulAdd(maxima, e_max, others));
    V square = zero;
    for (std::size_t c = 0; c < classes; ++c) {
      const V g = hn::MulSub(hn::Load(d, x + c * stride), scale, hn::Load(d, t + c * stride));
      square = hn::MulAdd(g, g, square);
      hn::Store(hn::IfThenElseZero(active, hn::Mul(weight, g)), d, x + c * stride);
    }
    hn::Store(hn::IfThenElseZero(active, square), d, rows.gradient_square + r);
  }
  return !hn::AllFalse(d, any_unusual);
}

bool TransformF32(const LabelTransform<float>& transform, const SoftmaxColumns<float>& block,
                  const RowArrays<float>& rows) {
  return Transform(transform, block, rows);
}
bool TransformF64(const LabelTransform<double>& transform, const SoftmaxColumns<double>& block,
                  const RowArrays<double>& rows) {
  return Transform(transform, block, rows);
}
bool ScoreF32(const SoftmaxColumns<float>& block, const RowArrays<float>& rows) {
  return Score(block, rows);
}
bool ScoreF64(const SoftmaxColumns<double>& block, const RowArrays<double>& rows) {
  return Score(block, rows);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(TransformF32);
HWY_EXPORT(TransformF64);
HWY_EXPORT(ScoreF32);
HWY_EXPORT(ScoreF64);

bool TransformLabels(const LabelTransform<float>& transform, const SoftmaxColumns<float>& block,
                     const RowArrays<float>& rows) {
  return HWY_DYNAMIC_DISPATCH(TransformF32)(transform, block, rows);
}
bool TransformLabels(const LabelTransform<double>& transform, const SoftmaxColumns<double>& block,
                     const RowArrays<double>& rows) {
  return HWY_DYNAMIC_DISPATCH(TransformF64)(transform, block, rows);
}
bool ScoreSoftmaxColumns(const SoftmaxColumns<float>& block, const RowArrays<float>& rows) {
  return HWY_DYNAMIC_DISPATCH(ScoreF32)(block, rows);
}
bool ScoreSoftmaxColumns(const SoftmaxColumns<double>& block, const RowArrays<double>& rows) {
  return HWY_DYNAMIC_DISPATCH(ScoreF64)(block, rows);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
