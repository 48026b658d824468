#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/label_transform.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>

#include "kernels/cpu/label_transform.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <typename T>
bool TransformColumns(const LabelTransform<T>& transform, const ClassColumns<T>& block,
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
        if (transform.weighs_labels) v = hn::Mul(weight, v);
        hn::Store(v, d, p);
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
LabelRowResult<T> TransformRow(const LabelTransform<T>& transform, T* t, std::size_t classes) {
  const Tag<T> d;
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;
  const V zero = hn::Zero(d), one = hn::Set(d, T(1));
  const RowWalk<T> walk(classes);
  LabelRowResult<T> result;

  const auto sum_labels = [&] HWY_ATTR {
    WideSum<D> sum(d);
    V part = zero;
    walk.ForEach([&](std::size_t i) HWY_ATTR { part = hn::Add(part, hn::LoadU(d, t + i)); },
                 [&](std::size_t i) HWY_ATTR {
                   part = hn::Add(part, hn::IfThenElseZero(walk.fresh, hn::LoadU(d, t + i)));
                 },
                 [&] HWY_ATTR {
                   sum.Add(d, part);
                   part = zero;
                 });
    return static_cast<T>(sum.Total());
  };
  // `change` maps a vector of labels at i; the tail is read before it is overwritten.
  const auto map = [&](auto change) HWY_ATTR {
    const V tail = hn::LoadU(d, t + walk.tail);
    walk.ForEach([&](std::size_t i)
                     HWY_ATTR { hn::StoreU(change(i, hn::LoadU(d, t + i)), d, t + i); },
                 [&](std::size_t i) HWY_ATTR { hn::StoreU(change(i, tail), d, t + i); }, [] {});
  };
  if (transform.row_sum) {
    const V divisor = hn::Set(d, std::max(sum_labels(), T(1)));
    map([&](std::size_t, V v) HWY_ATTR { return hn::Div(v, divisor); });
  }
  M in_range = AllLanes(d);
  const auto check = [&](std::size_t i) HWY_ATTR {
    const V v = hn::LoadU(d, t + i);
    in_range = hn::And(in_range, hn::And(hn::Ge(v, zero), hn::Le(v, one)));
  };
  walk.ForEach(check, check, [] {});
  result.in_range = hn::AllTrue(d, in_range);
  if (transform.ignore != nullptr) {
    const T ignore = *transform.ignore;
    result.ignored = std::all_of(
        t, t + classes, [ignore](T v) { return v == ignore || (v != v && ignore != ignore); });
  }
  result.label_sum = sum_labels();
  if (transform.renormalize && result.label_sum != 0) {
    const V divisor = hn::Set(d, result.label_sum);
    map([&](std::size_t, V v) HWY_ATTR { return hn::Div(v, divisor); });
  }
  if (transform.class_weight == nullptr) {
    result.class_weighted = transform.renormalize ? sum_labels() : result.label_sum;
  } else {
    WideSum<D> sum(d);
    V part = zero;
    const auto weigh = [&](std::size_t i) HWY_ATTR {
      return hn::Mul(hn::LoadU(d, transform.class_weight + i), hn::LoadU(d, t + i));
    };
    walk.ForEach([&](std::size_t i) HWY_ATTR { part = hn::Add(part, weigh(i)); },
                 [&](std::size_t i)
                     HWY_ATTR { part = hn::Add(part, hn::IfThenElseZero(walk.fresh, weigh(i))); },
                 [&] HWY_ATTR {
                   sum.Add(d, part);
                   part = zero;
                 });
    result.class_weighted = static_cast<T>(sum.Total());
  }
  if (transform.smoothing > 0) {
    const V keep = hn::Set(d, T(1) - transform.smoothing);
    const V uniform = hn::Set(d, transform.smoothing / static_cast<T>(classes));
    map([&](std::size_t, V v) HWY_ATTR { return hn::MulAdd(keep, v, uniform); });
  }
  if (transform.class_weight != nullptr && transform.weighs_labels) {
    map([&](std::size_t i, V v)
            HWY_ATTR { return hn::Mul(hn::LoadU(d, transform.class_weight + i), v); });
  }
  return result;
}

bool ColumnsF32(const LabelTransform<float>& transform, const ClassColumns<float>& block,
                const RowArrays<float>& rows) {
  return TransformColumns(transform, block, rows);
}
bool ColumnsF64(const LabelTransform<double>& transform, const ClassColumns<double>& block,
                const RowArrays<double>& rows) {
  return TransformColumns(transform, block, rows);
}
LabelRowResult<float> RowF32(const LabelTransform<float>& transform, float* t,
                             std::size_t classes) {
  return TransformRow(transform, t, classes);
}
LabelRowResult<double> RowF64(const LabelTransform<double>& transform, double* t,
                              std::size_t classes) {
  return TransformRow(transform, t, classes);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(ColumnsF32);
HWY_EXPORT(ColumnsF64);
HWY_EXPORT(RowF32);
HWY_EXPORT(RowF64);

bool TransformLabels(const LabelTransform<float>& transform, const ClassColumns<float>& block,
                     const RowArrays<float>& rows) {
  return HWY_DYNAMIC_DISPATCH(ColumnsF32)(transform, block, rows);
}
bool TransformLabels(const LabelTransform<double>& transform, const ClassColumns<double>& block,
                     const RowArrays<double>& rows) {
  return HWY_DYNAMIC_DISPATCH(ColumnsF64)(transform, block, rows);
}
LabelRowResult<float> TransformLabelRow(const LabelTransform<float>& transform, float* t,
                                        std::size_t classes) {
  return HWY_DYNAMIC_DISPATCH(RowF32)(transform, t, classes);
}
LabelRowResult<double> TransformLabelRow(const LabelTransform<double>& transform, double* t,
                                         std::size_t classes) {
  return HWY_DYNAMIC_DISPATCH(RowF64)(transform, t, classes);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
