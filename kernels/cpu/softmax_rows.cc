#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_rows.cc"
#include "hwy/foreach_target.h"

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_walk-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// A row's vectors are visited eight at a time. Sums alternate between two chains of four additions in
// the compute type and then go on in fp64: every addition may cost half a unit in the last place.
inline constexpr std::size_t kGroup = 8;

template <typename T>
HWY_INLINE hn::Vec<Tag<T>> MaxOfRow(const RowWalk<T>& shape, const T* x) {
  const Tag<T> d;
  const std::size_t lanes = shape.lanes;
  hn::Vec<Tag<T>> m0 = hn::LoadU(d, x + shape.tail), m1 = m0, m2 = m0, m3 = m0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= shape.whole; i += 4 * lanes) {
    m0 = hn::Max(m0, hn::LoadU(d, x + i));
    m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
    m2 = hn::Max(m2, hn::LoadU(d, x + i + 2 * lanes));
    m3 = hn::Max(m3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i < shape.whole; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, x + i));
  return hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
}

// Whether all logits are small enough for the vector code; NaN is not.
template <typename T>
HWY_INLINE bool AllSmall(const RowWalk<T>& shape, const T* x) {
  const Tag<T> d;
  const auto huge = hn::Set(d, kHugeLogit<T>);
  auto small = hn::Lt(hn::Abs(hn::LoadU(d, x + shape.tail)), huge);
  for (std::size_t i = 0; i < shape.whole; i += shape.lanes) {
    small = hn::And(small, hn::Lt(hn::Abs(hn::LoadU(d, x + i)), huge));
  }
  return hn::AllTrue(d, small);
}

// The exponentials of a row and what is summed on the way.
template <typename T, bool kDense>
class ExponentialPass {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using DI = hn::RebindToSigned<D>;

 public:
  HWY_INLINE ExponentialPass(const ClassRow<T>& row, V max, T* exponentials)
      : x_(row.x), t_(row.t), classes_(row.classes), to_(exponentials), max_(max), exp_(D(), max) {}

  template <bool kStore>
  HWY_INLINE void Run(const RowWalk<T>& shape) {
    const std::size_t lanes = shape.lanes;
    std::size_t i = 0;
    for (; i + kGroup * lanes <= shape.whole; i += kGroup * lanes) {
      Sums even, odd;
      Pair<kStore>(i, lanes, even, odd);
      Pair<kStore>(i + 2 * lanes, lanes, even, odd);
      Pair<kStore>(i + 4 * lanes, lanes, even, odd);
      Pair<kStore>(i + 6 * lanes, lanes, even, odd);
      Flush(even, odd);
    }
    Sums even, odd;
    for (; i + 2 * lanes <= shape.whole; i += 2 * lanes) Pair<kStore>(i, lanes, even, odd);
    if (i < shape.whole) Vector<kStore>(i, even);
    if (shape.has_tail) Tail<kStore>(shape, odd);
    Flush(even, odd);
  }

  V max() const { return max_; }
  T at_max() const { return hn::GetLane(exp_(D(), max_)); }
  double others() const { return others_.Total(); }
  double dot() const { return dot_.Total(); }
  double labels() const { return labels_.Total(); }
  double maxima() const { return static_cast<double>(hn::GetLane(hn::SumOfLanes(DI(), maxima_))); }
  bool in_range() const { return range_.AllInside(); }

 private:
  struct Sums {
    HWY_INLINE Sums() : others(hn::Zero(D())), dot(others), labels(others) {}
    V others, dot, labels;
  };

  template <bool kStore>
  HWY_INLINE void Pair(std::size_t i, std::size_t lanes, Sums& even, Sums& odd) {
    // The next row, where rows lie one after another, comes in while this one is worked on.
    hwy::Prefetch(x_ + i + classes_);
    if constexpr (kDense) hwy::Prefetch(t_ + i + classes_);
    Vector<kStore>(i, even);
    Vector<kStore>(i + lanes, odd);
  }

  template <bool kStore>
  HWY_INLINE void Vector(std::size_t i, Sums& sums) {
    const D d;
    const V v = hn::LoadU(d, x_ + i);
    const V e = exp_(d, v);
    if constexpr (kStore) hn::StoreU(e, d, to_ + i);
    const auto is_max = hn::Eq(v, max_);
    sums.others = hn::Add(sums.others, hn::IfThenZeroElse(is_max, e));
    maxima_ = hn::Sub(maxima_, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
    if constexpr (kDense) {
      const V t = hn::LoadU(d, t_ + i);
      range_.Add(t);
      sums.labels = hn::Add(sums.labels, t);
      sums.dot = hn::MulAdd(t, hn::Sub(max_, v), sums.dot);
    }
  }

  template <bool kStore>
  HWY_INLINE void Tail(const RowWalk<T>& shape, Sums& sums) {
    const D d;
    const V v = hn::LoadU(d, x_ + shape.tail);
    const V e = exp_(d, v);
    if constexpr (kStore) hn::StoreU(e, d, to_ + shape.tail);
    const auto is_max = hn::And(shape.fresh, hn::Eq(v, max_));
    sums.others =
        hn::Add(sums.others, hn::IfThenZeroElse(is_max, hn::IfThenElseZero(shape.fresh, e)));
    maxima_ = hn::Sub(maxima_, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
    if constexpr (kDense) {
      const V t = hn::IfThenElseZero(shape.fresh, hn::LoadU(d, t_ + shape.tail));
      range_.Add(t);
      sums.labels = hn::Add(sums.labels, t);
      sums.dot = hn::MulAdd(t, hn::Sub(max_, v), sums.dot);
    }
  }

  HWY_INLINE void Flush(const Sums& even, const Sums& odd) {
    const D d;
    others_.Add(d, hn::Add(even.others, odd.others));
    if constexpr (kDense) {
      dot_.Add(d, hn::Add(even.dot, odd.dot));
      labels_.Add(d, hn::Add(even.labels, odd.labels));
    }
  }

  const T* const x_;
  const T* const t_;
  const std::size_t classes_;
  T* const to_;
  const V max_;
  const RelativeExp<D> exp_;
  WideSum<D> others_{D()}, dot_{D()}, labels_{D()};
  hn::Vec<DI> maxima_{hn::Zero(DI())};
  UnitRange<D> range_{D()};
};

// g = e·scale - t, over e or elsewhere; Σ g².
template <typename T, bool kDense>
class GradientPass {
  using D = Tag<T>;
  using V = hn::Vec<D>;

 public:
  HWY_INLINE GradientPass(const T* e, const T* t, T scale, T weight, T* gradient)
      : e_(e), t_(t), scale_(hn::Set(D(), scale)), weight_(hn::Set(D(), weight)), to_(gradient) {}

  HWY_INLINE double Run(const RowWalk<T>& shape) {
    const D d;
    const std::size_t lanes = shape.lanes;
    // Read before the vectors that it overlaps are overwritten.
    const V tail_e = hn::LoadU(d, e_ + shape.tail);
    WideSum<D> squares(d);
    std::size_t i = 0;
    for (; i + kGroup * lanes <= shape.whole; i += kGroup * lanes) {
      V even = hn::Zero(d), odd = even;
      Pair(i, lanes, even, odd);
      Pair(i + 2 * lanes, lanes, even, odd);
      Pair(i + 4 * lanes, lanes, even, odd);
      Pair(i + 6 * lanes, lanes, even, odd);
      squares.Add(d, hn::Add(even, odd));
    }
    V even = hn::Zero(d), odd = even;
    for (; i + 2 * lanes <= shape.whole; i += 2 * lanes) Pair(i, lanes, even, odd);
    if (i < shape.whole) even = Square(Vector(i, hn::LoadU(d, e_ + i)), even);
    if (shape.has_tail) {
      odd = Square(hn::IfThenElseZero(shape.fresh, Vector(shape.tail, tail_e)), odd);
    }
    squares.Add(d, hn::Add(even, odd));
    return squares.Total();
  }

 private:
  HWY_INLINE V Vector(std::size_t i, V e) {
    const D d;
    V g;
    if constexpr (kDense) {
      g = hn::MulSub(e, scale_, hn::LoadU(d, t_ + i));
    } else {
      g = hn::Mul(e, scale_);
    }
    hn::StoreU(hn::Mul(weight_, g), d, to_ + i);
    return g;
  }
  static HWY_INLINE V Square(V g, V sum) { return hn::MulAdd(g, g, sum); }
  HWY_INLINE void Pair(std::size_t i, std::size_t lanes, V& even, V& odd) {
    const D d;
    even = Square(Vector(i, hn::LoadU(d, e_ + i)), even);
    odd = Square(Vector(i + lanes, hn::LoadU(d, e_ + i + lanes)), odd);
  }

  const T* const e_;
  const T* const t_;
  const V scale_, weight_;
  T* const to_;
};

template <typename T, bool kDense>
HWY_INLINE ClassRowResult<T> Score(const ClassRow<T>& row) {
  const RowWalk<T> shape(row.classes);
  ClassRowResult<T> result;
  if constexpr (!kDense) result.usable = AllSmall(shape, row.x);
  ExponentialPass<T, kDense> pass(row, MaxOfRow(shape, row.x), row.gradient);
  if (row.gradient != nullptr) {
    pass.template Run<true>(shape);
  } else {
    pass.template Run<false>(shape);
  }

  const double below = pass.others(), at = pass.maxima();
  const double e_max = static_cast<double>(pass.at_max());
  result.others = static_cast<T>(below / e_max + (at - 1));
  if constexpr (kDense) {
    result.loss = static_cast<T>(pass.dot());
    result.log_factor = result.label_sum = static_cast<T>(pass.labels());
    // Terms with NaN or infinity are NaN or infinite, whatever the label.
    result.usable = std::isfinite(result.loss) && std::isfinite(result.label_sum);
    result.in_range = pass.in_range();
  } else {
    T x_id;
    std::memcpy(&x_id, reinterpret_cast<const std::byte*>(row.x) + row.id * sizeof(T), sizeof(T));
    result.loss = row.id_weight * (hn::GetLane(pass.max()) - x_id);
    result.log_factor = result.label_sum = row.id_weight;
  }
  if (row.gradient == nullptr || !result.usable) return result;

  const T scale = static_cast<T>(static_cast<double>(result.label_sum) / (below + at * e_max));
  T e_id = 0;
  std::byte* const id_place =
      reinterpret_cast<std::byte*>(row.gradient) + (kDense ? 0 : row.id * sizeof(T));
  if constexpr (!kDense) {  // the one class with a target is done apart
    const T none = 0;
    std::memcpy(&e_id, id_place, sizeof(T));
    std::memcpy(id_place, &none, sizeof(T));
  }
  GradientPass<T, kDense> gradient(row.gradient, row.t, scale, row.row_weight, row.gradient);
  double squares = gradient.Run(shape);
  if constexpr (!kDense) {
    const T g = e_id * scale - row.id_weight;
    squares += static_cast<double>(g) * static_cast<double>(g);
    const T weighted_g = row.row_weight * g;
    std::memcpy(id_place, &weighted_g, sizeof(T));
  }
  result.gradient_square = static_cast<T>(squares);
  return result;
}

template <typename T>
ClassRowResult<T> Score(const ClassRow<T>& row) {
  return row.t != nullptr ? Score<T, true>(row) : Score<T, false>(row);
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
