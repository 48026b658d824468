#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_rows.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/softmax_rows.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Vectors whose lanes are summed in the compute type before the sums go on in fp64. With one big term
// and many small ones, every addition may cost half a unit in the last place of the sum.
inline constexpr std::size_t kVectorsPerFlush = 4;

// Visits a row of at least a vector. The last vector is taken from the row's end, so that it overlaps
// the one before; `fresh` are its lanes that were not there.
template <typename T>
struct RowWalk {
  using D = Tag<T>;

  explicit RowWalk(std::size_t classes)
      : lanes(hn::Lanes(D())),
        whole(classes / lanes * lanes),
        tail(classes - lanes),
        has_tail(whole < classes),
        fresh(hn::Not(hn::FirstN(D(), lanes - (classes - whole)))) {}

  const std::size_t lanes, whole, tail;
  const bool has_tail;
  const hn::Mask<D> fresh;

  // body(i) for each whole vector, flush() after every kVectorsPerFlush and at the end, before which
  // last(tail) is called if there is one.
  template <class Body, class Last, class Flush>
  HWY_INLINE void ForEach(Body body, Last last, Flush flush) const {
    for (std::size_t i = 0; i < whole;) {
      const std::size_t end = std::min(whole, i + kVectorsPerFlush * lanes);
      for (; i < end; i += lanes) body(i);
      if (i == whole && has_tail) last(tail);
      flush();
    }
  }
};

template <typename T>
SoftmaxRowResult<T> Score(const SoftmaxRow<T>& row) {
  const Tag<T> d;
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;
  const V zero = hn::Zero(d), one = hn::Set(d, T(1));
  const V huge_logit = hn::Set(d, kHugeLogit<T>), huge_label = hn::Set(d, kHugeLabel<T>);
  const RowWalk<T> walk(row.classes);
  SoftmaxRowResult<T> result;

  M usable = AllLanes(d);
  V max_lanes = hn::LoadU(d, row.x);
  const auto find_max = [&](std::size_t i) HWY_ATTR {
    const V v = hn::LoadU(d, row.x + i);
    max_lanes = hn::Max(max_lanes, v);
    usable = hn::And(usable, hn::Lt(hn::Abs(v), huge_logit));
  };
  walk.ForEach(find_max, find_max, [] {});
  if (!hn::AllTrue(d, usable)) {
    result.usable = false;
  }
  const V max = hn::MaxOfLanes(d, max_lanes);
  const RelativeExp<D> exp(d, max);

  WideSum<D> others_sum(d), maxima_sum(d), dot_sum(d), label_sum(d);
  V others = zero, maxima = zero, dot = zero, labels = zero;
  M in_range = usable;
  const auto exponentials = [&](V v, M counted, bool all) HWY_ATTR {
    const V e = exp(d, v);
    M is_max = hn::Eq(v, max);
    V below = hn::IfThenZeroElse(is_max, e);
    V at = hn::IfThenElseZero(is_max, one);
    if (!all) {
      below = hn::IfThenElseZero(counted, below);
      at = hn::IfThenElseZero(counted, at);
    }
    others = hn::Add(others, below);
    maxima = hn::Add(maxima, at);
    return e;
  };
  const auto dense = [&](std::size_t i, M counted, bool all) HWY_ATTR {
    const V v = hn::LoadU(d, row.x + i);
    V target = hn::LoadU(d, row.t + i);
    usable = hn::And(usable, hn::Lt(hn::Abs(target), huge_label));
    in_range = hn::And(in_range, hn::And(hn::Ge(target, zero), hn::Le(target, one)));
    if (!all) target = hn::IfThenElseZero(counted, target);
    labels = hn::Add(labels, target);
    dot = hn::MulAdd(target, hn::Sub(max, v), dot);
    const V e = exponentials(v, counted, all);
    if (row.gradient != nullptr) hn::StoreU(e, d, row.gradient + i);
  };
  const auto logits_only = [&](std::size_t i, M counted, bool all) HWY_ATTR {
    const V e = exponentials(hn::LoadU(d, row.x + i), counted, all);
    if (row.gradient != nullptr) hn::StoreU(e, d, row.gradient + i);
  };
  const auto flush = [&] HWY_ATTR {
    others_sum.Add(d, others);
    dot_sum.Add(d, dot);
    label_sum.Add(d, labels);
    others = dot = labels = zero;
  };
  const M every = AllLanes(d);
  const auto pass = [&](auto visit) HWY_ATTR {
    walk.ForEach([&](std::size_t i) HWY_ATTR { visit(i, every, true); },
                 [&](std::size_t i) HWY_ATTR { visit(i, walk.fresh, false); }, flush);
  };
  if (row.t != nullptr) {
    pass(dense);
  } else {
    pass(logits_only);
  }

  const T e_max = hn::GetLane(exp(d, max));
  maxima_sum.Add(d, maxima);  // exact: counts
  const double below = others_sum.Total(), at = maxima_sum.Total();
  result.others = static_cast<T>(below / static_cast<double>(e_max) + (at - 1));
  if (row.t != nullptr) {
    result.usable = hn::AllTrue(d, usable);
    result.in_range = hn::AllTrue(d, in_range);
    result.dot = static_cast<T>(dot_sum.Total());
    result.label_sum = static_cast<T>(label_sum.Total());
  } else {
    T x_id;
    std::memcpy(&x_id, reinterpret_cast<const std::byte*>(row.x) + row.id * sizeof(T), sizeof(T));
    result.dot = row.id_weight * (hn::GetLane(max) - x_id);
    result.label_sum = row.id_weight;
  }
  if (row.gradient == nullptr || !result.usable) return result;

  const T factor = static_cast<T>(static_cast<double>(result.label_sum) /
                                  (below + at * static_cast<double>(e_max)));
  const V scale = hn::Set(d, factor);
  const V weight = hn::Set(d, row.row_weight);
  const bool weighted = row.row_weight != 1;
  WideSum<D> square_sum(d);
  V square = zero;
  T e_id = 0;
  std::byte* const id_place =
      reinterpret_cast<std::byte*>(row.gradient) + (row.t == nullptr ? row.id * sizeof(T) : 0);
  if (row.t == nullptr) {  // the one class with a target is done apart
    const T none = 0;
    std::memcpy(&e_id, id_place, sizeof(T));
    std::memcpy(id_place, &none, sizeof(T));
  }
  // Read before the vectors that it overlaps are overwritten.
  const V tail_e = hn::LoadU(d, row.gradient + walk.tail);
  const auto finish = [&](std::size_t i, V e, M counted, bool all) HWY_ATTR {
    const V g =
        row.t != nullptr ? hn::MulSub(e, scale, hn::LoadU(d, row.t + i)) : hn::Mul(e, scale);
    const V g_counted = all ? g : hn::IfThenElseZero(counted, g);
    square = hn::MulAdd(g_counted, g_counted, square);
    hn::StoreU(weighted ? hn::Mul(weight, g) : g, d, row.gradient + i);
  };
  walk.ForEach([&](std::size_t i)
                   HWY_ATTR { finish(i, hn::LoadU(d, row.gradient + i), every, true); },
               [&](std::size_t i) HWY_ATTR { finish(i, tail_e, walk.fresh, false); },
               [&] HWY_ATTR {
                 square_sum.Add(d, square);
                 square = zero;
               });
  double squares = square_sum.Total();
  if (row.t == nullptr) {
    const T g = e_id * factor - row.id_weight;
    squares += static_cast<double>(g) * static_cast<double>(g);
    const T weighted_g = row.row_weight * g;
    std::memcpy(id_place, &weighted_g, sizeof(T));
  }
  result.gradient_square = static_cast<T>(squares);
  return result;
}

template <typename T>
LabelRowResult<T> Transform(const LabelTransform<T>& transform, T* t, std::size_t classes) {
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
  if (transform.class_weight != nullptr) {
    map([&](std::size_t i, V v)
            HWY_ATTR { return hn::Mul(hn::LoadU(d, transform.class_weight + i), v); });
  }
  return result;
}

SoftmaxRowResult<float> ScoreF32(const SoftmaxRow<float>& row) { return Score(row); }
SoftmaxRowResult<double> ScoreF64(const SoftmaxRow<double>& row) { return Score(row); }
LabelRowResult<float> TransformF32(const LabelTransform<float>& transform, float* t,
                                   std::size_t classes) {
  return Transform(transform, t, classes);
}
LabelRowResult<double> TransformF64(const LabelTransform<double>& transform, double* t,
                                    std::size_t classes) {
  return Transform(transform, t, classes);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(ScoreF32);
HWY_EXPORT(ScoreF64);
HWY_EXPORT(TransformF32);
HWY_EXPORT(TransformF64);

SoftmaxRowResult<float> ScoreSoftmaxRow(const SoftmaxRow<float>& row) {
  return HWY_DYNAMIC_DISPATCH(ScoreF32)(row);
}
SoftmaxRowResult<double> ScoreSoftmaxRow(const SoftmaxRow<double>& row) {
  return HWY_DYNAMIC_DISPATCH(ScoreF64)(row);
}
LabelRowResult<float> TransformLabelRow(const LabelTransform<float>& transform, float* t,
                                        std::size_t classes) {
  return HWY_DYNAMIC_DISPATCH(TransformF32)(transform, t, classes);
}
LabelRowResult<double> TransformLabelRow(const LabelTransform<double>& transform, double* t,
                                         std::size_t classes) {
  return HWY_DYNAMIC_DISPATCH(TransformF64)(transform, t, classes);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
