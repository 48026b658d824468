// Losses of elements, each a problem of its own, whatever the spec and the segment have.
#pragma once

#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/reduce.cuh"

namespace softloss::cuda::elements {

inline constexpr int kThreads = 256;
// Leaves up to this many elements get a warp each; larger ones a block each.
inline constexpr std::int64_t kWarpLeafElements = 2048;

struct Params {
  const DeviceSegment* segments;
  int count;
  std::int64_t leaves;
  std::int64_t classes;
  std::int32_t leaf_rows;
  std::uint32_t classes_reciprocal;  // ⌈2^32 / classes⌉, exact for elements < 2^14
  int leaf_shift;                    // leaf_rows = 1 << leaf_shift
  int threads_per_leaf;
  DType prediction;
  DType label;
  DType gradient;
  bool has_gradient;
  bool class_ids;
  bool class_last;
};

inline Params MakeParams(const KernelKey& key, const DeviceSegment* segments, int count,
                         std::int64_t leaves) {
  Params p{};
  p.segments = segments;
  p.count = count;
  p.leaves = leaves;
  p.classes = key.classes;
  p.leaf_rows = static_cast<std::int32_t>(key.leaf_rows);
  p.classes_reciprocal =
      key.classes > 1
          ? static_cast<std::uint32_t>(((std::uint64_t{1} << 32) + key.classes - 1) / key.classes)
          : 0;
  while ((1 << p.leaf_shift) < p.leaf_rows) ++p.leaf_shift;
  p.threads_per_leaf = key.leaf_rows * key.classes <= kWarpLeafElements ? kWarp : kThreads;
  p.prediction = key.prediction;
  p.label = key.label;
  p.gradient = key.gradient;
  p.has_gradient = key.has_gradient;
  p.class_ids = key.class_ids;
  p.class_last = key.class_last;
  return p;
}

// What a thread adds up over its share of a leaf.
struct Totals {
  double loss = 0;
  double weight = 0;
  double square = 0;
  int valid = 0;
  Conditions conditions;
};

inline constexpr int kVector = 4;

// Where an element stands: in its leaf's rows, its class, and its offset in the tensors.
struct Place {
  int row;
  std::int64_t klass;
  std::int64_t offset;
};

__device__ inline Place Locate(const Params& p, std::int64_t rows, std::int64_t leaf_begin,
                               std::int64_t e) {
  Place at;
  if (!p.class_last) {
    at.row = static_cast<int>(e & (p.leaf_rows - 1));
    at.klass = e >> p.leaf_shift;
    at.offset = at.klass * rows + leaf_begin + at.row;
  } else {
    at.offset = leaf_begin * p.classes + e;
    if (p.leaf_rows == 1) {
      at.row = 0;
      at.klass = e;
    } else if (p.classes == 1) {
      at.row = static_cast<int>(e);
      at.klass = 0;
    } else {
      at.row = static_cast<int>(__umulhi(static_cast<std::uint32_t>(e), p.classes_reciprocal));
      at.klass = e - at.row * p.classes;
    }
  }
  return at;
}

// Four elements in one access where they lie together and aligned.
template <typename T>
struct alignas(sizeof(T) * kVector) Quad {
  T v[kVector];
};

template <DType D>
struct StorageOf {
  using type = float;
};
template <>
struct StorageOf<DType::kF16> {
  using type = __half;
};
template <>
struct StorageOf<DType::kBF16> {
  using type = __nv_bfloat16;
};
template <>
struct StorageOf<DType::kF64> {
  using type = double;
};
template <>
struct StorageOf<DType::kU8> {
  using type = std::uint8_t;
};

template <typename Real, DType D>
__device__ inline void LoadQuad(const void* p, const std::int64_t (&offset)[kVector],
                                const bool (&present)[kVector], bool together, DType dtype,
                                Real (&out)[kVector]) {
  if constexpr (D != kAnyDType) {
    using T = typename StorageOf<D>::type;
    const T* source = static_cast<const T*>(p) + offset[0];
    if (together && reinterpret_cast<std::uintptr_t>(source) % sizeof(Quad<T>) == 0) {
      const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(source);
#pragma unroll
      for (int j = 0; j < kVector; ++j) out[j] = Load<Real, D>(quad.v, j, dtype);
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    out[j] = present[j] ? Load<Real, D>(p, offset[j], dtype) : Real{0};
  }
}

template <typename Real, DType D>
__device__ inline void StoreQuad(void* p, const std::int64_t (&offset)[kVector],
                                 const bool (&present)[kVector], bool together, DType dtype,
                                 const Real (&value)[kVector]) {
  if constexpr (D != kAnyDType) {
    using T = typename StorageOf<D>::type;
    T* target = static_cast<T*>(p) + offset[0];
    if (together && reinterpret_cast<std::uintptr_t>(target) % sizeof(Quad<T>) == 0) {
      Quad<T> quad;
#pragma unroll
      for (int j = 0; j < kVector; ++j) Store<Real, D>(quad.v, j, dtype, value[j]);
      *reinterpret_cast<Quad<T>*>(target) = quad;
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    if (present[j]) Store<Real, D>(p, offset[j], dtype, value[j]);
  }
}

template <typename Real>
struct Element {
  Real loss;
  Real gradient;
};

// `positive` is t and `negative` 1 - t, each after smoothing; `pos_weight` multiplies t's term.
template <typename Real>
__device__ inline Element<Real> CrossEntropy(Real x, Real positive, Real negative,
                                             Real pos_weight) {
  const Real e = Exp(-Abs(x));  // NaN for NaN
  const Real r = Reciprocal(Real{1} + e);
  const Real sigmoid = x >= 0 ? r : e * r;
  const Real weighted = pos_weight * positive;
  // Of the two terms softplus(±x) = max(±x, 0) + log1p(e), one has the |x|.
  const Real coefficient = x >= 0 ? negative : weighted;
  const Real total = pos_weight == Real{1} ? Real{1} : weighted + negative;
  Element<Real> out;
  out.loss = coefficient == 0 ? Real{0} : coefficient * Abs(x);
  out.loss = total == 0 ? out.loss : Fma(total, Log1p(e), out.loss);
  out.gradient = pos_weight == Real{1} ? sigmoid - positive : Fma(total, sigmoid, -weighted);
  // Selections by comparison must not lose a NaN; an infinite label has no loss.
  if (x != x || !IsFinite(positive)) out.loss = out.gradient = Nan<Real>();
  return out;
}

// Four elements of a thread.
template <typename Real>
struct Quartet {
  Real x[kVector];
  Real t[kVector];
  std::int64_t offset[kVector];
  bool present[kVector];
  Place at[kVector];
  bool together;  // all present and next to each other in memory
};

// A thread's work on one leaf, whatever the spec and the segment have.
template <class T>
class LeafWorker {
 public:
  using Real = typename T::Real;

  __device__ LeafWorker(const Params& p, const DeviceSegment& s, std::int64_t begin)
      : p_(p),
        s_(s),
        begin_(begin),
        leaf_rows_(static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - begin))),
        elements_((p.class_last ? leaf_rows_ : p.leaf_rows) * p.classes),
        smoothing_(s.label_smoothing),
        pos_weight_(s.pos_weight_count == 1 ? s.pos_weight[0] : 1.0f) {}

  // Quartets lane, lane + lanes, …
  __device__ void Run(int lane, int lanes, Totals* totals) const {
    const std::int64_t step = static_cast<std::int64_t>(lanes) * kVector;
    for (std::int64_t e = static_cast<std::int64_t>(lane) * kVector; e < elements_; e += step) {
      Score(LoadAt(e), totals);
    }
  }

 private:
  __device__ Quartet<Real> LoadAt(std::int64_t e) const {
    Quartet<Real> q;
    int n = 0;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      q.at[j] = Locate(p_, s_.rows, begin_, e + j);
      q.present[j] = e + j < elements_ && q.at[j].row < leaf_rows_;
      q.offset[j] = q.at[j].offset;
      n += q.present[j];
    }
    q.together = n == kVector && (p_.class_last || q.at[0].klass == q.at[kVector - 1].klass);
    LoadQuad<Real, T::kPrediction>(s_.prediction, q.offset, q.present, q.together, p_.prediction,
                                   q.x);
    if (!p_.class_ids) {
      LoadQuad<Real, T::kLabel>(s_.label, q.offset, q.present, q.together, p_.label, q.t);
    }
    return q;
  }

  // Decodes element j's label and finds its row's weight. False if it does not count.
  __device__ bool Counts(const Quartet<Real>& q, int j, Real* t, Real* row_weight) const {
    if (!q.present[j]) return false;
    *row_weight = 1;
    *t = q.t[j];
    const std::int64_t row = begin_ + q.at[j].row;
    if (s_.mask != nullptr && s_.mask[row] == 0) return false;
    if (s_.row_weight != nullptr) {
      *row_weight = s_.row_weight[row];
      if (!(*row_weight >= 0 && IsFinite(*row_weight))) {
        ReportBadRow(row, &s_.counters->bad_row_weight);
        return false;
      }
    }
    if (p_.class_ids) {
      const std::int64_t id = LoadId(s_.label, row, p_.label);
      if (s_.has_ignore_index && id == s_.ignore_index) return false;
      if (id < 0 || id >= p_.classes) {
        ReportBadRow(row, &s_.counters->bad_label);
        return false;
      }
      *t = id == q.at[j].klass ? 1 : 0;
      return true;
    }
    *t = DecodeLabel(*t, p_.label == DType::kU8);
    return !(s_.has_ignore_value && IsIgnored(*t, s_.ignore_value));
  }

  __device__ void Score(const Quartet<Real>& q, Totals* totals) const {
    Real loss[kVector];
    Real gradient[kVector];
    double loss_sum = 0;
    double square_sum = 0;
    bool odd = false;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      loss[j] = 0;
      gradient[j] = 0;
      Real t, row_weight;
      if (!Counts(q, j, &t, &row_weight)) continue;
      ++totals->valid;
      if (row_weight == 0) continue;
      const Real class_weight =
          s_.class_weight != nullptr ? static_cast<Real>(s_.class_weight[q.at[j].klass]) : Real{1};
      const Real pos_weight =
          s_.pos_weight_count > 1 ? static_cast<Real>(s_.pos_weight[q.at[j].klass]) : pos_weight_;
      totals->weight += static_cast<double>(row_weight) * static_cast<double>(class_weight);
      const Element<Real> element = ScoreElement(q.x[j], t, pos_weight);
      const Real scale = class_weight * row_weight;
      // A zero weight drops an infinite loss, not a NaN.
      loss[j] = scale == 0 && Abs(element.loss) == Infinity<Real>() ? 0 : element.loss * scale;
      gradient[j] = element.gradient * scale;
      odd |= !(IsFinite(q.x[j]) && t >= 0 && t <= 1 && IsFinite(loss[j]));
      loss_sum += static_cast<double>(loss[j]);
      const double g = gradient[j];
      square_sum = Fma(g, g, square_sum);
    }
    if (odd) CountConditions(q, loss, totals);
    totals->loss += loss_sum;
    if (p_.has_gradient) totals->square += square_sum;
    if (p_.has_gradient) {
      StoreQuad<Real, T::kGradient>(s_.gradient, q.offset, q.present, q.together, p_.gradient,
                                    gradient);
    }
    if (s_.row_loss != nullptr) {
      constexpr DType kRowLoss = std::is_same_v<Real, float> ? DType::kF32 : kAnyDType;
      StoreQuad<Real, kRowLoss>(s_.row_loss, q.offset, q.present, q.together, DType::kF64, loss);
    }
  }

  __device__ Element<Real> ScoreElement(Real x, Real t, Real pos_weight) const {
    Real positive = t;
    Real negative = Real{1} - t;
    if (smoothing_ != 0) {
      positive = Fma(Real{1} - smoothing_, positive, smoothing_ / 2);
      negative = Fma(Real{1} - smoothing_, negative, smoothing_ / 2);
    }
    return CrossEntropy(x, positive, negative, pos_weight);
  }

  // Exactly, where something is out of the ordinary.
  __device__ void CountConditions(const Quartet<Real>& q, const Real (&loss)[kVector],
                                  Totals* totals) const {
    for (int j = 0; j < kVector; ++j) {
      Real t, row_weight;
      if (!Counts(q, j, &t, &row_weight) || row_weight == 0) continue;
      totals->conditions.nonfinite_predictions += !IsFinite(q.x[j]);
      totals->conditions.nonfinite_labels += !IsFinite(t);
      totals->conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
      totals->conditions.nonfinite_losses += !IsFinite(loss[j]);
    }
  }

  const Params& p_;
  const DeviceSegment& s_;
  const std::int64_t begin_;
  const int leaf_rows_;
  const std::int64_t elements_;
  const Real smoothing_;
  const Real pos_weight_;
};

}  // namespace softloss::cuda::elements
