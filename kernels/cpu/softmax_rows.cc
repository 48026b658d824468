#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_rows.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/row_checks-inl.h"
#include "kernels/cpu/row_gradient-inl.h"
#include "kernels/cpu/row_walk-inl.h"
#include "kernels/cpu/softmax_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// What is worked on at a time, in classes: logits, labels and exponentials of a tile stay in the L1
// cache from pass to pass. A tile's exponentials are relative to the maximum of the tile: a long row is
// read once.
inline constexpr std::size_t kTile = kMaxWholeRow - kMinRowClasses;
inline constexpr std::size_t kMaxTiles = 128;

// Vectors are visited eight at a time, in two chains; then the sums go on in fp64: with one big term
// and many small ones, every addition may cost half a unit in the last place.
inline constexpr std::size_t kGroup = 2 * kPack;

// What a tile comes to. Not initialised: the passes fill it in.
struct Tile {
  std::size_t begin, size;  // in its row
  double max;
  double dot;     // Σ t·(max - x)
  double labels;  // Σ t
  double at_max;  // the exponential of the maximum: RelativeExp's factor
  double maxima;  // how many exponentials are that
  double below;   // Σ of the others
  double factor;  // of its exponentials in the gradient
  bool usual;     // ids: every logit is small enough; NaN is not
  bool in_range;
};

template <typename T>
const T* LogitsOf(const ClassRow<T>& row, std::size_t begin, std::size_t n) {
  return row.tiles != nullptr ? row.tiles->Logits(begin, n) : row.x + begin;
}
template <typename T>
const T* LabelsOf(const ClassRow<T>& row, std::size_t begin, std::size_t n) {
  return row.tiles != nullptr ? row.tiles->Labels(begin, n) : row.t + begin;
}

// The passes over a tile of a row. Exponentials go to `spare`.
template <typename T, bool kDense>
class TilePasses {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using DI = hn::RebindToSigned<D>;

 public:
  TilePasses(const ClassRow<T>& row, Tile& tile)
      : walk_(tile.size),
        tile_(tile),
        x_(LogitsOf(row, tile.begin, tile.size)),
        t_(kDense ? LabelsOf(row, tile.begin, tile.size) : nullptr),
        e_(row.spare + tile.begin),
        raw_(row.raw.KnownOr(e_)) {}

  HWY_INLINE void Max() {
    const D d;
    const std::size_t lanes = walk_.lanes;
    const T* const x = x_;
    V m0 = hn::LoadU(d, x + walk_.tail), m1 = m0, m2 = m0, m3 = m0;
    std::size_t i = 0;
    for (; i + 4 * lanes <= walk_.whole; i += 4 * lanes) {
      m0 = hn::Max(m0, hn::LoadU(d, x + i));
      m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
      m2 = hn::Max(m2, hn::LoadU(d, x + i + 2 * lanes));
      m3 = hn::Max(m3, hn::LoadU(d, x + i + 3 * lanes));
    }
    for (; i < walk_.whole; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, x + i));
    const V max = hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
    tile_.max = static_cast<double>(hn::GetLane(max));
    tile_.usual = tile_.in_range = true;
    tile_.dot = tile_.labels = 0;
    if constexpr (kDense) {
      Labels();
    } else {
      tile_.usual = AllBelow(walk_, x_, kHugeLogit<T>);
    }
  }

  // `ahead`: where what is worked on next begins, in elements from the row's begin.
  HWY_INLINE void Exponentials(std::size_t ahead) {
    const D d;
    const std::size_t lanes = walk_.lanes;
    const Pack<V, 1> max = {{hn::Set(d, static_cast<T>(tile_.max))}};
    const RelativeTo<V, 1> to = RelativeToMax(d, max);
    const V at_max = ExpRelative(d, to, max).v[0];
    WideSum<D> below(d);
    hn::Vec<DI> maxima = hn::Zero(DI());
    std::size_t i = 0;
    for (; i + kGroup * lanes <= walk_.whole; i += kGroup * lanes) {
      Prefetch(i + ahead);
      const V even = Add<kPack>(i, to, at_max, maxima);
      const V odd = Add<kPack>(i + kPack * lanes, to, at_max, maxima);
      below.Add(d, hn::Add(even, odd));
    }
    V even = hn::Zero(d), odd = even;
    if (i + kPack * lanes <= walk_.whole) {
      Prefetch(i + ahead);
      even = Add<kPack>(i, to, at_max, maxima);
      i += kPack * lanes;
    }
    for (; i < walk_.whole; i += lanes) odd = hn::Add(odd, Add<1>(i, to, at_max, maxima));
    if (walk_.has_tail) {
      const V e = ExpRelative(d, to, Pack<V, 1>{{hn::LoadU(d, x_ + walk_.tail)}}).v[0];
      hn::StoreU(e, d, e_ + walk_.tail);
      const auto is_max = hn::And(walk_.fresh, hn::Eq(e, at_max));
      maxima = hn::Sub(maxima, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
      even = hn::Add(even, hn::IfThenElseZero(walk_.fresh, hn::IfThenZeroElse(is_max, e)));
    }
    below.Add(d, hn::Add(even, odd));
    tile_.below = below.Total();
    tile_.maxima = static_cast<double>(hn::GetLane(hn::SumOfLanes(DI(), maxima)));
    tile_.at_max = static_cast<double>(hn::GetLane(at_max));
  }

 private:
  HWY_INLINE void Labels() {
    const D d;
    const std::size_t lanes = walk_.lanes;
    const T* const x = x_;
    const T* const t = t_;
    const V max = hn::Set(d, static_cast<T>(tile_.max));
    WideSum<D> dot(d), labels(d);
    UnitRange<D> even_range(d), odd_range(d);
    const auto add = [&](std::size_t i, V& dot_part, V& label_part, UnitRange<D>& range) HWY_ATTR {
      const V target = hn::LoadU(d, t + i);
      range.Add(target);
      label_part = hn::Add(label_part, target);
      dot_part = hn::MulAdd(target, hn::Sub(max, hn::LoadU(d, x + i)), dot_part);
    };
    for (std::size_t i = 0; i < walk_.whole || i == 0;) {
      V dot0 = hn::Zero(d), dot1 = dot0, labels0 = dot0, labels1 = dot0;
      const std::size_t end = std::min(walk_.whole, i + kGroup * lanes);
      for (; i + 2 * lanes <= end; i += 2 * lanes) {
        add(i, dot0, labels0, even_range);
        add(i + lanes, dot1, labels1, odd_range);
      }
      if (i < end) {
        add(i, dot0, labels0, even_range);
        i += lanes;
      }
      dot.Add(d, hn::Add(dot0, dot1));
      labels.Add(d, hn::Add(labels0, labels1));
    }
    if (walk_.has_tail) {
      const V target = hn::IfThenElseZero(walk_.fresh, hn::LoadU(d, t + walk_.tail));
      even_range.Add(target);
      labels.Add(d, target);
      // Where it is not fresh, x may be infinite.
      const V below = hn::IfThenElseZero(walk_.fresh, hn::Sub(max, hn::LoadU(d, x + walk_.tail)));
      dot.Add(d, hn::Mul(target, below));
    }
    tile_.dot = dot.Total();
    tile_.labels = labels.Total();
    tile_.in_range = even_range.AllInside() && odd_range.AllInside();
  }

  // N vectors. What has the maximum's exponential counts as a maximum: its share is the same.
  template <std::size_t N>
  HWY_INLINE V Add(std::size_t i, const RelativeTo<V, 1>& to, V at_max, hn::Vec<DI>& maxima) {
    const D d;
    const auto e = ExpRelative(
        d, RelativeTo<V, N>{Spread<N>(to.subtract), Spread<N>(to.magic), Spread<N>(to.floor)},
        LoadPack<N>(d, x_ + i, walk_.lanes));
    StorePack(e, d, e_ + i, walk_.lanes);
    return SumOfPack(Each(
        [&](V a) HWY_ATTR {
          const auto is_max = hn::Eq(a, at_max);
          maxima = hn::Sub(maxima, hn::BitCast(DI(), hn::VecFromMask(d, is_max)));
          return hn::IfThenZeroElse(is_max, a);
        },
        e));
  }

  // The lines that a group of elements is read from.
  HWY_INLINE void Prefetch(std::size_t begin) const {
    constexpr std::size_t kLines = kGroup * hn::MaxLanes(D()) * sizeof(T) / 64;
    PrefetchElements<T>(raw_.x, begin, raw_.x_size, std::max<std::size_t>(1, kLines));
    if constexpr (kDense) {
      PrefetchElements<T>(raw_.t, begin, raw_.t_size, std::max<std::size_t>(1, kLines));
    }
  }

  const RowWalk<T> walk_;
  Tile& tile_;
  const T* const x_;
  const T* const t_;
  T* const e_;
  const RawRow raw_;
};

// g = e·factor - t of a tile. Returns Σ g².
template <typename T, bool kDense, bool kStream>
HWY_INLINE double Gradient(const ClassRow<T>& row, const Tile& tile, T* to) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  const RowTarget<T, kDense> target = {kDense ? LabelsOf(row, tile.begin, tile.size) : nullptr,
                                       row.id - static_cast<std::int64_t>(tile.begin),
                                       hn::Set(d, row.id_weight)};
  const V weight = hn::Set(d, row.row_weight);
  WideSum<Tag<T>> squares(d);
  squares.Add(
      d, RowGradient<true, kStream>(
             RowWalk<T>(tile.size), row.spare + tile.begin, hn::Set(d, static_cast<T>(tile.factor)),
             target, [&](V g) HWY_ATTR { return hn::Mul(weight, g); }, to, squares));
  return squares.Total();
}

// e^x in fp64, for x ≤ 0.
HWY_INLINE double WideExp(double x) {
  const Tag<double> d;
  return hn::GetLane(hn::Exp(d, hn::Set(d, x)));
}

// A row's result from its tiles', and their factors.
template <typename T, bool kDense>
ClassRowResult<T> Combine(const ClassRow<T>& row, Tile* tiles, std::size_t n) {
  ClassRowResult<T> result;
  double max = tiles[0].max;
  for (std::size_t i = 0; i < n; ++i) max = std::max(max, tiles[i].max);
  double maxima = 0, others = 0, dot = 0, labels = 0;
  for (std::size_t i = 0; i < n; ++i) {
    Tile& tile = tiles[i];
    const bool has_max = tile.max == max;
    const double scale = has_max ? 1 : WideExp(tile.max - max);
    tile.factor = scale / tile.at_max;
    others += tile.below * tile.factor;
    (has_max ? maxima : others) += tile.maxima * scale;
    dot += tile.dot + (max - tile.max) * tile.labels;
    labels += tile.labels;
    result.usable &= tile.usual;
    result.in_range &= tile.in_range;
  }
  others += maxima - 1;
  result.others = static_cast<T>(others);
  if constexpr (kDense) {
    result.loss = static_cast<T>(dot);
    result.log_factor = result.label_sum = static_cast<T>(labels);
    // Terms with NaN or infinity are NaN or infinite, whatever the label.
    result.usable = std::isfinite(result.loss) && std::isfinite(result.label_sum);
  } else {
    T x_id;
    std::memcpy(&x_id, LogitsOf(row, static_cast<std::size_t>(row.id), 1), sizeof(T));
    result.loss = row.id_weight * (static_cast<T>(max) - x_id);
    result.log_factor = result.label_sum = row.id_weight;
  }
  const double share = static_cast<double>(result.label_sum) / (1 + others);
  for (std::size_t i = 0; i < n; ++i) tiles[i].factor *= share;
  return result;
}

template <typename T, bool kDense>
void FinishRow(const ClassRow<T>& row, Tile* tiles, std::size_t n, ClassRowResult<T>& result) {
  const bool wanted = row.tiles != nullptr ? row.tiles->wants_gradient() : row.gradient != nullptr;
  if (!wanted || !result.usable) return;
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Tile& tile = tiles[i];
    typename RowTiles<T>::Place place = {row.gradient + tile.begin};
    if (row.tiles != nullptr) place = row.tiles->GradientPlace(tile.begin, tile.size);
    squares += place.streams ? Gradient<T, kDense, true>(row, tile, place.data)
                             : Gradient<T, kDense, false>(row, tile, place.data);
    if (row.tiles != nullptr) row.tiles->WriteGradient(tile.begin, tile.size, place.data);
  }
  result.gradient_square = static_cast<T>(squares);
}

template <typename T, bool kDense>
ClassRowResult<T> ScoreRow(const ClassRow<T>& row) {
  Tile tiles[kMaxTiles];
  const std::size_t least = (row.classes + kMaxTiles - 1) / kMaxTiles;
  const std::size_t size = std::max(kTile, (least + 63) / 64 * 64);
  std::size_t n = 0;
  for (std::size_t begin = 0; begin < row.classes; begin += tiles[n++].size) {
    const std::size_t left = row.classes - begin;
    tiles[n].begin = begin;
    // A tile has at least a vector.
    tiles[n].size = left < size + kMinRowClasses ? left : size;
    TilePasses<T, kDense> passes(row, tiles[n]);
    passes.Max();
    passes.Exponentials(begin + tiles[n].size);
  }
  ClassRowResult<T> result = Combine<T, kDense>(row, tiles, n);
  FinishRow<T, kDense>(row, tiles, n, result);
  return result;
}

template <typename T>
ClassRowResult<T> Score(const ClassRow<T>& row) {
  const bool dense = row.tiles != nullptr ? row.tiles->has_labels() : row.t != nullptr;
  return dense ? ScoreRow<T, true>(row) : ScoreRow<T, false>(row);
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
