#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_columns.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_walk-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <typename T>
bool Score(const ClassColumns<T>& block, const RowArrays<T>& rows) {
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

bool ColumnsF32(const ClassColumns<float>& block, const RowArrays<float>& rows) {
  return Score(block, rows);
}
bool ColumnsF64(const ClassColumns<double>& block, const RowArrays<double>& rows) {
  return Score(block, rows);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(ColumnsF32);
HWY_EXPORT(ColumnsF64);

bool ScoreSoftmaxColumns(const ClassColumns<float>& block, const RowArrays<float>& rows) {
  return HWY_DYNAMIC_DISPATCH(ColumnsF32)(block, rows);
}
bool ScoreSoftmaxColumns(const ClassColumns<double>& block, const RowArrays<double>& rows) {
  return HWY_DYNAMIC_DISPATCH(ColumnsF64)(block, rows);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
