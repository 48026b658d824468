// Rows of few classes that lie together: a thread a row. A leaf's rows are one run of bytes, which comes
// into shared memory in full lines, some leaves ahead of the one in hand, and goes out so again.
#pragma once

#include "kernels/cuda/general.cuh"
#include "kernels/cuda/row.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/vector.cuh"

namespace softloss::cuda {
namespace runs {

inline constexpr int kMaxClasses = 32;
inline constexpr int kThreads = 256;  // the rows of a leaf of so few classes

// A block's shared memory, before the stages.
struct State {
  double scratch[4 * kMaxWarps];
};

struct Layout {
  int label;     // bytes into a stage
  int gradient;  // where the gradient is put together: over the predictions if it fits them
  int stage;     // bytes of a stage
  int stages;
};

// The leaf that a block has at `i` steps from its first.
struct Leaf {
  const DeviceSegment* segment;
  std::int64_t index;  // in the segment
  std::int64_t begin;  // row
  int rows;
};

__device__ inline Leaf LeafAt(const Params& p, std::int64_t leaf) {
  const DeviceSegment& s = FindSegment(p.segments, p.count, leaf);
  Leaf out = {&s, leaf - s.first_leaf, 0, 0};
  out.begin = out.index * p.leaf_rows;
  out.rows = static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - out.begin));
  return out;
}

__device__ inline const std::byte* At(const void* tensor, std::int64_t element, int size) {
  return static_cast<const std::byte*>(tensor) + element * size;
}

__device__ inline void LoadLeaf(const Params& p, const Leaf& leaf, const Layout& layout,
                                std::byte* stage) {
  const std::int64_t first = leaf.begin * p.classes;
  const int elements = leaf.rows * p.classes;
  LoadRun(At(leaf.segment->prediction, first, p.prediction_size), elements * p.prediction_size,
          stage);
  if (!p.class_ids) {
    LoadRun(At(leaf.segment->label, first, p.label_size), elements * p.label_size,
            stage + layout.label);
  }
}

// Four elements of a row at `i`, a multiple of four past the row's begin, in shared memory; some may lie
// past its end. `even` says how many bytes the row's length, and so every row's begin, is a multiple of.
template <DType D, typename Real>
__device__ inline void LoadFour(const std::byte* run, int i, int even, DType dtype, Real* out) {
  if constexpr (D == kAnyDType || sizeof(Real) == 8) {
#pragma unroll
    for (int j = 0; j < 4; ++j) out[j] = Load<Real, D>(run, i + j, dtype);
  } else {
    constexpr int kSize = kSizeOf<D>;
    const std::byte* at = run + i * kSize;
    Packed<4 * kSize> packed;
    if (even % (4 * kSize) == 0) {
      packed = *reinterpret_cast<const Packed<4 * kSize>*>(at);
    } else if (even % (2 * kSize) == 0 && kSize > 1) {
      const auto* half = reinterpret_cast<const Packed<2 * kSize>*>(at);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int w = 0; w < kSize / 2; ++w) packed.word[j * (kSize / 2) + w] = half[j].word[w];
      }
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[j] = Load<Real, D>(run, i + j, dtype);
      return;
    }
    Unpack<D>(packed, out);
  }
}

// Four elements of a row, of which the first `count` exist.
template <DType D, typename Real>
__device__ inline void StoreFour(std::byte* run, int i, int even, int count, DType dtype,
                                 const Real* v) {
  if constexpr (D != kAnyDType && sizeof(Real) == 4) {
    constexpr int kSize = kSizeOf<D>;
    if (even % (4 * kSize) == 0) {
      *reinterpret_cast<Packed<4 * kSize>*>(run + i * kSize) = Pack<D, 4 * kSize>(v);
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < count) Store<Real, D>(run, i + j, dtype, v[j]);
  }
}

// A thread's row. The segment is plain.
template <class T>
__device__ inline void ScoreRow(const Params& p, const Leaf& leaf, const Layout& layout,
                                std::byte* stage, Totals* totals) {
  using Real = typename T::Real;
  if (static_cast<int>(threadIdx.x) >= leaf.rows) return;
  const DeviceSegment& s = *leaf.segment;
  const std::int64_t index = leaf.begin + threadIdx.x;
  const std::int64_t first = leaf.begin * p.classes;
  const std::byte* prediction = stage + Shift(At(s.prediction, first, p.prediction_size));
  const std::byte* label = stage + layout.label + Shift(At(s.label, first, p.label_size));
  std::byte* gradient = stage + layout.gradient + Shift(At(s.gradient, first, p.gradient_size));
  const int at = static_cast<int>(threadIdx.x) * p.classes;
  const int even = p.classes & -p.classes;
  const Row<Real> row = ReadRow<Real>(p, s, index, true, true);
  const bool over_255 = (T::kLabel == kAnyDType ? p.label : T::kLabel) == DType::kU8;

  bool odd = false;
  const auto load_labels = [&](int group, Real* t) {
    if (T::kLabel == kAnyDType && p.class_ids) {
#pragma unroll
      for (int j = 0; j < 4; ++j) t[j] = group + j == row.id ? 1 : 0;
      return;
    }
    LoadFour<T::kLabel>(label, at + group, even * p.label_size, p.label, t);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      t[j] = group + j < p.classes ? DecodeLabel(t[j], over_255) : Real{0};
  };
  Real x[kMaxClasses];
#pragma unroll
  for (int group = 0; group < kMaxClasses; group += 4) {
    if (group >= p.classes) break;
    LoadFour<T::kPrediction>(prediction, at + group, even * p.prediction_size, p.prediction,
                             x + group);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool there = group + j < p.classes;
      odd |= there && !IsFinite(x[group + j]);
      if (!there) x[group + j] = -Infinity<Real>();
    }
  }
  Real t[4];
  const Sums<Real> sums = SumElements(
      x,
      [&](int j) {
        if (j % 4 == 0) load_labels(j, t);
        odd |= !InUnitInterval(t[j % 4]);
        return t[j % 4];
      },
      p.classes, 1);
  FinishRow(p, s, row, index, sums, sums.mass, sums.mass, totals);
  if (p.has_gradient) {
    const Real scale = GradientScale(sums);
    Real square = 0;
#pragma unroll
    for (int group = 0; group < kMaxClasses; group += 4) {
      if (group >= p.classes) break;
      load_labels(group, t);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Real g = Fma(x[group + j], scale, -t[j]);
        square = Fma(g, g, square);
        t[j] = row.scored() ? g * row.weight : Real{0};
      }
      // Over the prediction or the label of the same size, which nobody reads again.
      StoreFour<T::kGradient>(gradient, at + group, even * p.gradient_size, p.classes - group,
                              p.gradient, t);
    }
    if (row.scored()) AddSquare(square, row.weight, totals);
  }
  if (odd && row.scored()) {
    CountElements<Real>(p, s, index * p.classes, 1, 0, p.classes, p.classes, p.classes);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(typename T::Real) == 4 ? 2 : 1)
    Kernel(const __grid_constant__ Params p, const __grid_constant__ Layout layout) {
  double* const scratch = SharedState<State>()->scratch;
  std::byte* const shared = SharedAfter<State>();
  const auto stage = [&](std::int64_t i) { return shared + i % layout.stages * layout.stage; };

  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * p.leaves_per_block;
  const int leaves =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaves_per_block), p.leaves - first));
  for (int i = 0; i < layout.stages - 1; ++i) {
    if (i < leaves) LoadLeaf(p, LeafAt(p, first + i), layout, stage(i));
    __pipeline_commit();
  }
  for (int i = 0; i < leaves; ++i) {
    const int ahead = i + layout.stages - 1;
    if (ahead < leaves) LoadLeaf(p, LeafAt(p, first + ahead), layout, stage(ahead));
    __pipeline_commit();
    switch (layout.stages) {
      case 1: __pipeline_wait_prior(0); break;
      case 2: __pipeline_wait_prior(1); break;
      default: __pipeline_wait_prior(2); break;
    }
    __syncthreads();

    const Leaf leaf = LeafAt(p, first + i);
    if (!IsPlain(p, *leaf.segment)) {
      ScoreLeaf<typename T::Real>(p, *leaf.segment, leaf.index, scratch);
      continue;
    }
    Totals totals;
    ScoreRow<T>(p, leaf, layout, stage(i), &totals);
    if (p.has_gradient) {
      __syncthreads();
      StoreRun(stage(i) + layout.gradient, leaf.rows * p.classes * p.gradient_size,
               static_cast<std::byte*>(leaf.segment->gradient) +
                   leaf.begin * p.classes * p.gradient_size);
    }
    // Its barriers also keep the next leaf out of this stage until all have stored.
    WriteLeaf(totals, *leaf.segment, leaf.index, scratch);
  }
}

}  // namespace runs
}  // namespace softloss::cuda
