#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_rows.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_walk-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <typename T>
ClassRowResult<T> Score(const ClassRow<T>& row) {
  const Tag<T> d;
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;
  const V zero = hn::Zero(d), one = hn::Set(d, T(1));
  const V huge_logit = hn::Set(d, kHugeLogit<T>), huge_label = hn::Set(d, kHugeLabel<T>);
  const RowWalk<T> walk(row.classes);
  ClassRowResult<T> result;

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
    result.loss = static_cast<T>(dot_sum.Total());
    result.log_factor = result.label_sum = static_cast<T>(label_sum.Total());
  } else {
    T x_id;
    std::memcpy(&x_id, reinterpret_cast<const std::byte*>(row.x) + row.id * sizeof(T), sizeof(T));
    result.loss = row.id_weight * (hn::GetLane(max) - x_id);
    result.log_factor = result.label_sum = row.id_weight;
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

ClassRowResult<float> RowF32(const ClassRow<float>& row) { return Score(row); }
ClassRowResult<double> RowF64(const ClassRow<double>& row) { return Score(row); }

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(RowF32);
HWY_EXPORT(RowF64);

ClassRowResult<float> ScoreSoftmaxRow(const ClassRow<float>& row) {
  return HWY_DYNAMIC_DISPATCH(RowF32)(row);
}
ClassRowResult<double> ScoreSoftmaxRow(const ClassRow<double>& row) {
  return HWY_DYNAMIC_DISPATCH(RowF64)(row);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
