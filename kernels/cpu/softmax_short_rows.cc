#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_short_rows.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/row_checks-inl.h"
#include "kernels/cpu/row_gradient-inl.h"
#include "kernels/cpu/row_walk-inl.h"
#include "kernels/cpu/softmax_between-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Vectors are visited in packs, and two packs are added in the compute type; then the sums go on in
// fp64: with one big term and many small ones, every addition may cost half a unit in the last place.
inline constexpr std::size_t kGroup = 2 * kPack;

// Rows of up to a group are narrow: their vectors of sums are as many as lanes, and are added across
// the lanes all at once. Others are added one by one, which then counts for little.
template <typename T>
inline constexpr std::size_t kNarrow = sizeof(T) == 4 && HWY_TARGET != HWY_SCALAR &&
                                               !HWY_HAVE_SCALABLE
                                           ? kGroup
                                           : 0;

// What is worked on at a time, in classes of all rows: its logits, labels, exponentials and gradient
// are to stay in the L1 cache.
inline constexpr std::size_t kWorkingSet = 2048;

// How far ahead memory is asked for, in elements.
inline constexpr std::size_t kAhead = 1024;

template <typename T, bool kDense>
class ShortRows {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using DI = hn::RebindToSigned<D>;
  static constexpr std::size_t kRows = 16;  // lanes at most

 public:
  ShortRows(const ClassRows<T>& block, const RowArrays<T>& rows)
      : block_(block),
        rows_(rows),
        walk_(block.classes),
        spare_step_((block.classes + kRowQuantum - 1) / kRowQuantum * kRowQuantum),
        ahead_(block.raw.KnownOr(block.x)) {}

  // True if a row is unusual.
  bool Run() {
    const std::size_t vectors = (block_.classes + hn::Lanes(D()) - 1) / hn::Lanes(D());
    if constexpr (kNarrow < T >> 0) {
      if (vectors <= kNarrow<T>) {
        const std::size_t rest = (vectors - 1) % kPack + 1;
        if (rest == 1) return RunBy<false, 1>();
        if (rest == 2) return RunBy<false, 2>();
        if (rest == 3) return RunBy<false, 3>();
        return RunBy<false, 4>();
      }
    }
    return RunBy<true, 1>();
  }

 private:
  // Sums of a row, lane by lane.
  struct Sums {
    V dot, labels, others;
  };
  // Of all rows that are worked on.
  struct Checks {
    hn::Vec<DI> maxima;  // how many
    UnitRange<D> labels;
  };

  // kRest: the vectors of a narrow row's last pack.
  template <bool kWide, std::size_t kRest>
  bool RunBy() {
    return walk_.has_tail ? RunAll<kWide, kRest, true>() : RunAll<kWide, kRest, false>();
  }

  template <bool kWide, std::size_t kRest, bool kTail>
  HWY_NOINLINE bool RunAll() {
    const std::size_t step =
        kWide ? std::clamp<std::size_t>(kWorkingSet / block_.classes, 1, hn::Lanes(D()))
              : hn::Lanes(D());
    const std::size_t ahead = std::max(kAhead, step * block_.classes);
    bool unusual = false;
    for (std::size_t begin = 0; begin < block_.rows; begin += step) {
      const std::size_t n = std::min(step, block_.rows - begin);
      for (std::size_t r = 0; r < n; ++r) Max<kWide>(begin, r);
      if constexpr (!kWide) {
        for (std::size_t r = n; r < hn::Lanes(D()); ++r) ClearParts(r);
        Reduce(max_parts_, between_.max, [](V a, V b) HWY_ATTR { return hn::Max(a, b); });
      }
      between_.template Prepare<1>(0);
      Checks checks = {hn::Zero(DI()), UnitRange<D>(D())};
      for (std::size_t r = 0; r < n; ++r) {
        Exponentials<kWide, kRest, kTail>(begin, r, ahead, checks);
      }
      if constexpr (!kWide) {
        const auto add = [](V a, V b) HWY_ATTR { return hn::Add(a, b); };
        Reduce(other_parts_, between_.others, add);
        if constexpr (kDense) {
          Reduce(dot_parts_, between_.dot, add);
          Reduce(label_parts_, between_.label_sum, add);
        }
      }
      unusual |= Finish(begin, n, checks);
      if (block_.gradient != nullptr) Gradients<kWide>(begin, n);
    }
    return unusual;
  }

  void ClearParts(std::size_t r) {
    for (T* const parts : {max_parts_, dot_parts_, label_parts_, other_parts_}) {
      std::fill_n(parts + r * hn::Lanes(D()), hn::Lanes(D()), T(0));
    }
  }

  template <class Op>
  HWY_INLINE static void Reduce(const T* parts, T* to, Op op) {
#if HWY_TARGET != HWY_SCALAR
    const D d;
    hn::Store(ReduceEach<hn::MaxLanes(D())>(d, parts, op), d, to);
#endif
  }

  template <bool kWide>
  HWY_INLINE void Max(std::size_t begin, std::size_t r) {
    const D d;
    const std::size_t lanes = hn::Lanes(d);
    const T* const x = block_.x + (begin + r) * block_.classes;
    V even = hn::LoadU(d, x + walk_.tail), odd = even;
    std::size_t i = 0;
    for (; i + 2 * lanes <= walk_.whole; i += 2 * lanes) {
      even = hn::Max(even, hn::LoadU(d, x + i));
      odd = hn::Max(odd, hn::LoadU(d, x + i + lanes));
    }
    if (i < walk_.whole) even = hn::Max(even, hn::LoadU(d, x + i));
    const V max = hn::Max(even, odd);
    if constexpr (kWide) {
      between_.max[r] = hn::GetLane(hn::MaxOfLanes(d, max));
    } else {
      hn::Store(max, d, max_parts_ + r * lanes);
    }
  }

  // Where in a row, and what is asked for ahead of it.
  struct Cursor {
    const T* x;
    const T* t;
    T* e;
    const std::byte* ahead_x;
    const std::byte* ahead_t;
  };
  // What a row's exponentials are relative to.
  struct RowMax {
    RelativeTo<V, 1> to;
    V max, at_max;
  };

  // A row's exponentials to `spare`, and its sums.
  template <bool kWide, std::size_t kRest, bool kTail>
  HWY_INLINE void Exponentials(std::size_t begin, std::size_t r, std::size_t ahead,
                               Checks& checks) {
    const D d;
    const std::size_t lanes = hn::Lanes(D()), row = (begin + r) * block_.classes;
    const RowMax max = {{{{hn::Set(d, between_.subtract[r])}},
                         {{hn::Set(d, between_.magic[r])}},
                         {{hn::Set(d, between_.floor[r])}}},
                        hn::Set(d, between_.max[r]),
                        hn::Set(d, between_.at_max[r])};
    Cursor at = {block_.x + row, kDense ? block_.t + row : nullptr, block_.spare + r * spare_step_,
                 ahead_.x + (row + ahead) * ahead_.x_size,
                 ahead_.t + (row + ahead) * ahead_.t_size};
    Sums sums = {hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    const std::size_t vectors = (block_.classes + lanes - 1) / lanes;
    if constexpr (kWide) {
      WideSum<D> dot(d), labels(d), others(d);
      const auto flush = [&] HWY_ATTR {
        others.Add(d, sums.others);
        if constexpr (kDense) {
          dot.Add(d, sums.dot);
          labels.Add(d, sums.labels);
        }
        sums = {hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      };
      std::size_t left = vectors - 1;
      for (; left >= kGroup; left -= kGroup) {
        for (std::size_t k = 0; k < kGroup; k += kPack) Add<kPack, false>(at, max, sums, checks);
        flush();
      }
      for (; left >= kPack; left -= kPack) Add<kPack, false>(at, max, sums, checks);
      flush();
      for (; left > 0; --left) Add<1, false>(at, max, sums, checks);
      Add<1, kTail>(at, max, sums, checks);
      flush();
      between_.others[r] = static_cast<T>(others.Total());
      if constexpr (kDense) {
        between_.dot[r] = static_cast<T>(dot.Total());
        between_.label_sum[r] = static_cast<T>(labels.Total());
      }
    } else {
      for (std::size_t left = vectors - kRest; left > 0; left -= kPack) {
        Add<kPack, false>(at, max, sums, checks);
      }
      Add<kRest, kTail>(at, max, sums, checks);
      hn::Store(sums.others, d, other_parts_ + r * lanes);
      if constexpr (kDense) {
        hn::Store(sums.dot, d, dot_parts_ + r * lanes);
        hn::Store(sums.labels, d, label_parts_ + r * lanes);
      }
    }
    if constexpr (!kDense) {
      const auto id = static_cast<std::size_t>(std::max<std::int64_t>(block_.ids[begin + r], 0));
      T x_id;
      std::memcpy(&x_id, Bytes(block_.x) + (row + id) * sizeof(T), sizeof(T));
      between_.dot[r] = between_.max[r] - x_id;
      between_.label_sum[r] = 1;
    }
  }

  static const std::byte* Bytes(const T* p) { return reinterpret_cast<const std::byte*>(p); }

  // N vectors of a row's classes; kTail: the last is the row's last, and overlaps the one before.
  template <std::size_t N, bool kTail>
  HWY_INLINE void Add(Cursor& at, const RowMax& max, Sums& sums, Checks& checks) {
    const D d;
    const std::size_t lanes = hn::Lanes(d);
    const std::size_t last =
        kTail ? (N - 1) * lanes - (lanes - block_.classes % lanes) : (N - 1) * lanes;
    const auto place = [&](std::size_t k) HWY_ATTR { return k == N - 1 ? last : k * lanes; };
    Prefetch<N>(at);
    Pack<V, N> x;
    ForEach<N>([&](auto k) HWY_ATTR { x.v[k] = hn::LoadU(d, at.x + place(k)); });
    auto e = ExpRelativeToOne(d, max.to, x);
    ForEach<N>([&](auto k) HWY_ATTR { hn::StoreU(e.v[k], d, at.e + place(k)); });
    if constexpr (kTail) e.v[N - 1] = hn::IfThenElseZero(walk_.fresh, e.v[N - 1]);
    const auto others = Each(
        [&](V a) HWY_ATTR {
          const auto is_max = hn::Eq(a, max.at_max);
          checks.maxima = hn::Sub(checks.maxima, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
          return hn::IfThenZeroElse(is_max, a);
        },
        e);
    sums.others = hn::Add(sums.others, SumOfPack(others));
    if constexpr (kDense) {
      Pack<V, N> t;
      ForEach<N>([&](auto k) HWY_ATTR {
        t.v[k] = hn::LoadU(d, at.t + place(k));
        checks.labels.Add(t.v[k]);
      });
      auto below = Each([&](V a) HWY_ATTR { return hn::Sub(max.max, a); }, x);
      if constexpr (kTail) {
        t.v[N - 1] = hn::IfThenElseZero(walk_.fresh, t.v[N - 1]);
        below.v[N - 1] = hn::IfThenElseZero(walk_.fresh, below.v[N - 1]);
      }
      sums.labels = hn::Add(sums.labels, SumOfPack(t));
      sums.dot = hn::Add(sums.dot, DotOfPacks(t, below));
      at.t += N * lanes;
    }
    at.x += N * lanes;
    at.e += N * lanes;
  }

  // The lines of N vectors of logits and labels; of narrow types, some twice.
  template <std::size_t N>
  HWY_INLINE void Prefetch(Cursor& at) const {
    constexpr std::size_t kLines = std::max<std::size_t>(1, N * hn::MaxLanes(D()) * sizeof(T) / 64);
    const std::size_t elements = N * hn::Lanes(D());
    PrefetchElements<T>(at.ahead_x, 0, ahead_.x_size, kLines);
    if constexpr (kDense) PrefetchElements<T>(at.ahead_t, 0, ahead_.t_size, kLines);
    at.ahead_x += elements * ahead_.x_size;
    at.ahead_t += elements * ahead_.t_size;
  }

  // Results of n rows from `begin`. True if one is unusual.
  HWY_INLINE bool Finish(std::size_t begin, std::size_t n, const Checks& checks) {
    const D d;
    const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
    const auto these = hn::FirstN(d, n);
    const V dot = hn::Load(d, between_.dot), label_sum = hn::Load(d, between_.label_sum);
    // A term that is NaN or infinite makes the sum so, whatever the label.
    auto usable = hn::And(hn::Lt(hn::Abs(dot), infinity), hn::Lt(hn::Abs(label_sum), infinity));
    if constexpr (!kDense) usable = hn::And(usable, Small(begin, n));
    // Every usable row has a maximum: as many as rows, and each has one.
    const auto counted = static_cast<std::size_t>(hn::GetLane(hn::SumOfLanes(DI(), checks.maxima)));
    if (counted == n && hn::AllTrue(d, hn::Or(usable, hn::Not(these)))) {
      hn::Store(hn::Set(d, T(1)), d, between_.maxima);
    } else {
      for (std::size_t r = 0; r < n; ++r)
        between_.maxima[r] = Count(walk_, block_.spare + r * spare_step_, between_.at_max[r]);
    }
    const V loss = between_.template Losses<1>(0).v[0];

    const V weight = hn::LoadU(d, rows_.row_weight + begin);
    const auto active = hn::Gt(weight, hn::Zero(d));
    V mark = hn::IfThenZeroElse(usable, hn::Set(d, T(kRescore)));
    if (kDense && !checks.labels.AllInside()) mark = hn::Max(mark, OutOfRange(begin, n));
    mark = hn::IfThenElseZero(hn::And(these, active), mark);
    Deliver(hn::IfThenElseZero(active, hn::Mul(weight, loss)), n, rows_.loss + begin);
    Deliver(label_sum, n, rows_.label_sum + begin);
    Deliver(label_sum, n, rows_.class_weighted + begin);
    Deliver(mark, n, rows_.unusual + begin);
    return !hn::AllTrue(d, hn::Eq(mark, hn::Zero(d)));
  }

  // kCount for the rows with a label outside [0, 1].
  HWY_NOINLINE V OutOfRange(std::size_t begin, std::size_t n) const {
    HWY_ALIGN T marks[kRows] = {};
    for (std::size_t r = 0; r < n; ++r) {
      const T* const t = block_.t + (begin + r) * block_.classes;
      if (!AllInUnitInterval(walk_, t)) marks[r] = T(kCount);
    }
    return hn::Load(D(), marks);
  }

  // Rows whose every logit is small enough: with ids, not every logit is a term.
  HWY_INLINE hn::Mask<D> Small(std::size_t begin, std::size_t n) const {
    HWY_ALIGN T small[kRows] = {};
    for (std::size_t r = 0; r < n; ++r) {
      small[r] = T(AllBelow(walk_, block_.x + (begin + r) * block_.classes, kHugeLogit<T>));
    }
    return hn::Gt(hn::Load(D(), small), hn::Zero(D()));
  }

  HWY_INLINE void Deliver(V v, std::size_t n, T* to) const {
    const D d;
    if (n == hn::Lanes(D())) {
      hn::StoreU(v, d, to);
    } else {
      HWY_ALIGN T values[kRows];
      hn::Store(v, d, values);
      std::memcpy(to, values, n * sizeof(T));
    }
  }

  template <bool kWide>
  HWY_INLINE void Gradients(std::size_t begin, std::size_t n) {
    const D d;
    const V ones = hn::Set(d, T(1));
    const auto others = hn::Not(hn::FirstN(d, n));
    const bool plain =
        hn::AllTrue(d, hn::Or(others, hn::Eq(hn::LoadU(d, rows_.row_weight + begin), ones)));
    if (block_.streams) {
      plain ? GradientsAs<kWide, false, true>(begin, n) : GradientsAs<kWide, true, true>(begin, n);
    } else {
      plain ? GradientsAs<kWide, false, false>(begin, n)
            : GradientsAs<kWide, true, false>(begin, n);
    }
  }

  template <bool kWide, bool kWeighted, bool kStream>
  HWY_INLINE void GradientsAs(std::size_t begin, std::size_t n) {
    const D d;
    for (std::size_t r = 0; r < n; ++r) {
      const std::size_t row = (begin + r) * block_.classes;
      const V weight = hn::Set(d, rows_.row_weight[begin + r]);
      const auto active = hn::Gt(weight, hn::Zero(d));
      const RowTarget<T, kDense> target = {kDense ? block_.t + row : nullptr,
                                           kDense ? 0 : block_.ids[begin + r], hn::Set(d, T(1))};
      WideSum<D> squares(d);
      const V square = RowGradient<kWide, kStream>(
          walk_, block_.spare + r * spare_step_, hn::Set(d, between_.scale[r]), target,
          [&](V g)
              HWY_ATTR { return kWeighted ? hn::IfThenElseZero(active, hn::Mul(weight, g)) : g; },
          block_.gradient + row, squares);
      if constexpr (kWide) {
        squares.Add(d, square);
        rows_.gradient_square[begin + r] = static_cast<T>(squares.Total());
      } else {
        hn::Store(square, d, other_parts_ + r * hn::Lanes(d));
      }
    }
    if constexpr (!kWide) {
      Reduce(other_parts_, between_.others, [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
      Deliver(hn::Load(d, between_.others), n, rows_.gradient_square + begin);
    }
  }

  const ClassRows<T>& block_;
  const RowArrays<T>& rows_;
  const RowWalk<T> walk_;
  const std::size_t spare_step_;
  const RawRow ahead_;
  Between<T, kRows> between_{};
  // Narrow rows' vectors of sums.
  HWY_ALIGN T max_parts_[kRows * kRows], dot_parts_[kRows * kRows];
  HWY_ALIGN T label_parts_[kRows * kRows], other_parts_[kRows * kRows];
};

template <typename T>
bool ScoreShort(const ClassRows<T>& block, const RowArrays<T>& rows) {
  return block.t != nullptr ? ShortRows<T, true>(block, rows).Run()
                            : ShortRows<T, false>(block, rows).Run();
}

bool ShortRowsF32(const ClassRows<float>& block, const RowArrays<float>& rows) {
  return ScoreShort(block, rows);
}
bool ShortRowsF64(const ClassRows<double>& block, const RowArrays<double>& rows) {
  return ScoreShort(block, rows);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(ShortRowsF32);
HWY_EXPORT(ShortRowsF64);

bool ScoreSoftmaxShortRows(const ClassRows<float>& block, const RowArrays<float>& rows) {
  return HWY_DYNAMIC_DISPATCH(ShortRowsF32)(block, rows);
}
bool ScoreSoftmaxShortRows(const ClassRows<double>& block, const RowArrays<double>& rows) {
  return HWY_DYNAMIC_DISPATCH(ShortRowsF64)(block, rows);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
