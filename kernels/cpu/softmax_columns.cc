#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_columns.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/softmax_between-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Rows that go through the passes together, so that what one row waits for is another's work.
inline constexpr std::size_t kRows = 64;
// Vectors of rows of two classes in step: with more, they do not fit the registers.
inline constexpr std::size_t kPackOfTwo = 2;
// Classes whose terms are added in the compute type before they join a row's compensated sum. With one
// big term and many small ones, every addition on a term's way, five here, may cost half a unit in the
// last place of the sum.
inline constexpr std::size_t kGroup = 16;

template <typename T>
class ColumnsKernel {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using DI = hn::RebindToSigned<D>;

 public:
  ColumnsKernel(const ClassColumns<T>& block, const RowArrays<T>& rows)
      : block_(block),
        rows_(rows),
        infinity_(hn::Set(D(), std::numeric_limits<T>::infinity())),
        prefetcher_(block.ahead) {
    // For every pack of vectors; few classes go by packs of rows.
    const std::size_t lanes = hn::Lanes(D());
    const std::size_t packs = block.classes < kPack ? block.rows / (kPack * lanes)
                                                    : block.rows / lanes * (block.classes / kPack);
    lines_ = packs == 0 ? 0 : (Prefetcher::Count(block.ahead) + packs - 1) / packs;
  }

  // True if a row is unusual.
  bool Run() {
    const std::size_t lanes = hn::Lanes(D());
    const std::size_t rows = (block_.rows + lanes - 1) / lanes * lanes;
    if constexpr (sizeof(T) == 4) {
      if (block_.classes == 2) return RunTwo(rows);
    }
    bool unusual = false;
    for (std::size_t begin = 0; begin < rows; begin += kRows) {
      const std::size_t n = std::min(kRows, rows - begin);
      const std::size_t packed = n / (kPack * lanes) * (kPack * lanes);
      std::size_t r = 0;
      for (r = 0; r < n; r += lanes) {
        Max(begin, r);
        Labels(begin, r);
      }
      for (r = 0; r < packed; r += kPack * lanes) {
        if (block_.classes < kPack) prefetcher_.Fetch(lines_);
        between_.template Prepare<kPack>(r);
      }
      for (; r < n; r += lanes) between_.template Prepare<1>(r);
      for (r = 0; r < n; r += lanes) Exponentials(begin, r);
      for (r = 0; r < packed; r += kPack * lanes) unusual |= Finish<kPack>(begin, r);
      for (; r < n; r += lanes) unusual |= Finish<1>(begin, r);
      if (!block_.gradient) continue;
      for (r = 0; r < n; r += lanes) Gradient(begin, r);
    }
    return unusual;
  }

 private:
  HWY_INLINE void Max(std::size_t begin, std::size_t r) {
    const D d;
    const std::size_t stride = block_.stride;
    const T* x = block_.x + begin + r;
    V even = hn::Load(d, x), odd = even;
    std::size_t n = block_.classes - 1;
    for (; n >= 2; n -= 2, x += 2 * stride) {
      even = hn::Max(even, hn::Load(d, x + stride));
      odd = hn::Max(odd, hn::Load(d, x + 2 * stride));
    }
    if (n > 0) even = hn::Max(even, hn::Load(d, x + stride));
    hn::Store(hn::Max(even, odd), d, between_.max + r);
  }

  HWY_INLINE void Labels(std::size_t begin, std::size_t r) {
    const D d;
    const V max = hn::Load(d, between_.max + r);
    const std::size_t stride = block_.stride;
    const T* x = block_.x + begin + r;
    const T* t = block_.t + begin + r;
    CompensatedSum<D> dot(d), labels(d);
    UnitRange<D> even(d), odd(d);
    const auto add = [&](std::size_t i, V& dot_part, V& label_part, UnitRange<D>& range) HWY_ATTR {
      const V target = hn::Load(d, t + i * stride);
      dot_part = hn::MulAdd(target, hn::Sub(max, hn::Load(d, x + i * stride)), dot_part);
      label_part = hn::Add(label_part, target);
      range.Add(target);
    };
    for (std::size_t c = 0, classes = block_.classes; c < classes; c += kGroup) {
      std::size_t n = std::min(classes - c, kGroup);
      // In four chains, each of which waits for its last sum.
      V dot0 = hn::Zero(d), dot1 = dot0, dot2 = dot0, dot3 = dot0;
      V labels0 = dot0, labels1 = dot0, labels2 = dot0, labels3 = dot0;
      for (; n >= 4; n -= 4, x += 4 * stride, t += 4 * stride) {
        add(0, dot0, labels0, even);
        add(1, dot1, labels1, odd);
        add(2, dot2, labels2, even);
        add(3, dot3, labels3, odd);
      }
      for (; n > 0; --n, x += stride, t += stride) {
        std::swap(dot0, dot1);
        std::swap(labels0, labels1);
        add(0, dot0, labels0, even);
      }
      dot.AddNext(hn::Add(hn::Add(dot0, dot1), hn::Add(dot2, dot3)), c == 0);
      labels.AddNext(hn::Add(hn::Add(labels0, labels1), hn::Add(labels2, labels3)), c == 0);
    }
    hn::Store(dot.Total(), d, between_.dot + r);
    hn::Store(labels.Total(), d, between_.label_sum + r);
    hn::Store(hn::VecFromMask(d, hn::And(even.Inside(), odd.Inside())), d, inside_ + r);
  }

  // They replace the logits.
  HWY_INLINE void Exponentials(std::size_t begin, std::size_t r) {
    const D d;
    const RelativeTo<V, 1> to = {{{hn::Load(d, between_.subtract + r)}},
                                 {{hn::Load(d, between_.magic + r)}},
                                 {{hn::Load(d, between_.floor + r)}}};
    const V at_max = hn::Load(d, between_.at_max + r);
    CompensatedSum<D> others(d);
    hn::Vec<DI> maxima = hn::Zero(DI());
    const std::size_t classes = block_.classes, stride = block_.stride;
    Prefetcher& prefetcher = prefetcher_;
    T* x = block_.x + begin + r;
    for (std::size_t c = 0; c < classes; c += kGroup) {
      V sum = hn::Zero(d);
      std::size_t n = std::min(classes - c, kGroup);
      for (; n >= 4; n -= 4, x += 4 * stride) {
        prefetcher.Fetch(lines_);
        Add<4>(x, stride, to, at_max, sum, maxima);
      }
      if (n >= 2) {
        Add<2>(x, stride, to, at_max, sum, maxima);
        n -= 2;
        x += 2 * stride;
      }
      if (n > 0) Add<1>(x, stride, to, at_max, sum, maxima);
      x += n * stride;
      others.AddNext(sum, c == 0);
    }
    hn::Store(others.Total(), d, between_.others + r);
    hn::Store(hn::ConvertTo(d, maxima), d, between_.maxima + r);
  }

  // N classes.
  template <std::size_t N>
  HWY_INLINE static void Add(T* x, std::size_t stride, const RelativeTo<V, 1>& to, V at_max, V& sum,
                             hn::Vec<DI>& maxima) {
    const D d;
    const auto e = ExpRelativeToOne(d, to, LoadPack<N>(d, x, stride));
    StorePack(e, d, x, stride);
    sum = hn::Add(sum, SumOfPack(Each(
                           [&](V a) HWY_ATTR {
                             const auto is_max = hn::Eq(a, at_max);
                             maxima =
                                 hn::Sub(maxima, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
                             return hn::IfThenZeroElse(is_max, a);
                           },
                           e)));
  }

  // N vectors of rows: their losses, and what the gradient needs. True if a row is unusual.
  template <std::size_t N>
  HWY_INLINE bool Finish(std::size_t begin, std::size_t r) {
    const D d;
    const V zero = hn::Zero(d);
    const std::size_t lanes = hn::Lanes(d);
    const auto loss = between_.template Losses<N>(r);
    V marked = zero;
    ForEach<N>([&](auto i) HWY_ATTR {
      const std::size_t at = r + i * lanes;
      marked =
          hn::Max(marked, StoreRow(rows_, begin + at, loss.v[i], hn::Load(d, between_.dot + at),
                                   hn::Load(d, between_.label_sum + at),
                                   hn::MaskFromVec(hn::Load(d, inside_ + at))));
    });
    return !hn::AllTrue(d, hn::Eq(marked, zero));
  }

  // A vector of row results. Returns the marks of unusual rows.
  HWY_INLINE V StoreRow(const RowArrays<T>& rows, std::size_t row, V loss, V dot, V label_sum,
                        hn::Mask<D> inside) {
    const D d;
    const V weight = hn::Load(d, rows.row_weight + row);
    hn::Store(hn::IfThenElseZero(hn::Gt(weight, hn::Zero(d)), hn::Mul(weight, loss)), d,
              rows.loss + row);
    // A term that is NaN or infinite makes the sum so, whatever the label.
    const auto finite =
        hn::And(hn::Lt(hn::Abs(dot), infinity_), hn::Lt(hn::Abs(label_sum), infinity_));
    V mark = hn::IfThenZeroElse(finite, hn::Set(d, T(kRescore)));
    if (block_.check_labels) {
      hn::Store(label_sum, d, rows.label_sum + row);
      hn::Store(label_sum, d, rows.class_weighted + row);
      mark = hn::Max(mark, hn::IfThenZeroElse(inside, hn::Set(d, T(kCount))));
    } else {
      mark = hn::Max(mark, hn::Load(d, rows.unusual + row));
    }
    hn::Store(mark, d, rows.unusual + row);
    return mark;
  }

  HWY_INLINE void Gradient(std::size_t begin, std::size_t r) {
    const D d;
    const V weight = hn::Load(d, rows_.row_weight + begin + r);
    const V scale = hn::Load(d, between_.scale + r);
    const bool plain = hn::AllTrue(d, hn::Eq(weight, hn::Set(d, T(1))));
    const V square = plain ? GradientOf<false>(begin + r, scale, weight)
                           : GradientOf<true>(begin + r, scale, weight);
    hn::Store(hn::IfThenElseZero(hn::Gt(weight, hn::Zero(d)), square), d,
              rows_.gradient_square + begin + r);
  }

  // g = e·scale - t, over e. Returns Σ g².
  template <bool kWeighted>
  HWY_INLINE V GradientOf(std::size_t row, V scale, V weight) {
    const D d;
    const auto active = hn::Gt(weight, hn::Zero(d));
    const std::size_t stride = block_.stride;
    T* x = block_.x + row;
    const T* t = block_.t + row;
    const auto next = [&](V square) HWY_ATTR {
      const V g = hn::MulSub(hn::Load(d, x), scale, hn::Load(d, t));
      hn::Store(kWeighted ? hn::IfThenElseZero(active, hn::Mul(weight, g)) : g, d, x);
      x += stride;
      t += stride;
      return hn::MulAdd(g, g, square);
    };
    V square0 = hn::Zero(d), square1 = square0, square2 = square0, square3 = square0;
    std::size_t n = block_.classes;
    for (; n >= 4; n -= 4) {
      square0 = next(square0);
      square1 = next(square1);
      square2 = next(square2);
      square3 = next(square3);
    }
    for (; n > 0; --n) {
      std::swap(square0, square1);
      square0 = next(square0);
    }
    return hn::Add(hn::Add(square0, square1), hn::Add(square2, square3));
  }

  // N vectors of rows of two classes: e^-|x0 - x1| replaces x0, and the difference x1.
  template <std::size_t N>
  HWY_INLINE void TwoExponentials(T* x) {
    const D d;
    const std::size_t lanes = hn::Lanes(d), stride = block_.stride;
    const V zero = hn::Zero(d);
    const auto sub = [&](V a, V b) HWY_ATTR { return hn::Sub(a, b); };
    const auto x0 = LoadPack<N>(d, x, lanes), x1 = LoadPack<N>(d, x + stride, lanes);
    const auto difference = Each(sub, x0, x1);
    StorePack(difference, d, x + stride, lanes);
    // What rounding took from it: at -69 that is 4e-6 of the exponential.
    const auto minus_x1 = Each(sub, difference, x0);
    const auto lost = Each(
        [&](V a, V b, V c, V f) HWY_ATTR {
          const V value = hn::Sub(hn::Sub(a, hn::Sub(c, f)), hn::Add(b, f));
          return hn::IfThenElse(hn::Ge(c, zero), hn::Neg(value), value);
        },
        x0, x1, difference, minus_x1);
    const auto minus = Each([&](V a) HWY_ATTR { return hn::Neg(hn::Abs(a)); }, difference);
    StorePack(ExpNonPositive(d, minus, lost), d, x, lanes);
  }

  // Their results, with one division. True if a row is unusual.
  template <std::size_t N>
  HWY_INLINE bool FinishTwo(const RowArrays<T>& rows, std::size_t row) {
    const D d;
    const std::size_t lanes = hn::Lanes(d), stride = block_.stride;
    T* const x = block_.x + row;
    const T* const t = block_.t + row;
    const auto e = LoadPack<N>(d, x, lanes);
    const auto logistic = LogisticOf(d, e);
    V marked = hn::Zero(d);
    ForEach<N>([&](auto i) HWY_ATTR {
      const std::size_t at = i * lanes;
      const V t0 = hn::Load(d, t + at), t1 = hn::Load(d, t + stride + at);
      const V difference = hn::Load(d, x + stride + at);
      const auto first = hn::Ge(difference, hn::Zero(d));  // whether the first logit is the larger
      const V label_sum = hn::Add(t0, t1);
      const V dot = hn::Mul(hn::IfThenElse(first, t1, t0), hn::Abs(difference));
      UnitRange<D> range(d);
      range.Add(t0);
      range.Add(t1);
      marked =
          hn::Max(marked, StoreRow(rows, row + at, hn::MulAdd(label_sum, logistic.log.v[i], dot),
                                   dot, label_sum, range.Inside()));
      if (!block_.gradient) return;
      const V weight = hn::Load(d, rows.row_weight + row + at);
      const auto active = hn::Gt(weight, hn::Zero(d));
      const V larger = hn::Mul(label_sum, logistic.inverse.v[i]);
      const V smaller = hn::Mul(larger, e.v[i]);
      const V g0 = hn::Sub(hn::IfThenElse(first, larger, smaller), t0);
      const V g1 = hn::Sub(hn::IfThenElse(first, smaller, larger), t1);
      hn::Store(hn::IfThenElseZero(active, hn::MulAdd(g0, g0, hn::Mul(g1, g1))), d,
                rows.gradient_square + row + at);
      hn::Store(hn::IfThenElseZero(active, hn::Mul(weight, g0)), d, x + at);
      hn::Store(hn::IfThenElseZero(active, hn::Mul(weight, g1)), d, x + stride + at);
    });
    return !hn::AllTrue(d, hn::Eq(marked, hn::Zero(d)));
  }

  bool RunTwo(std::size_t rows) {
    const std::size_t lanes = hn::Lanes(D()),
                      packed = rows / (kPackOfTwo * lanes) * (kPackOfTwo * lanes);
    T* const x = block_.x;
    const RowArrays<T> arrays = rows_;  // a copy: stores may not change it
    bool unusual = false;
    std::size_t r = 0;
    for (; r < packed; r += kPackOfTwo * lanes) {
      prefetcher_.Fetch(lines_);
      TwoExponentials<kPackOfTwo>(x + r);
    }
    for (; r < rows; r += lanes) TwoExponentials<1>(x + r);
    for (r = 0; r < packed; r += kPackOfTwo * lanes) unusual |= FinishTwo<kPackOfTwo>(arrays, r);
    for (; r < rows; r += lanes) unusual |= FinishTwo<1>(arrays, r);
    return unusual;
  }

  const ClassColumns<T>& block_;
  const RowArrays<T>& rows_;
  const V infinity_;
  Prefetcher prefetcher_;
  std::size_t lines_ = 0;
  Between<T, kRows> between_;
  HWY_ALIGN T inside_[kRows];  // a mask: labels in [0, 1]
};

bool ColumnsF32(const ClassColumns<float>& block, const RowArrays<float>& rows) {
  return ColumnsKernel<float>(block, rows).Run();
}
bool ColumnsF64(const ClassColumns<double>& block, const RowArrays<double>& rows) {
  return ColumnsKernel<double>(block, rows).Run();
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
