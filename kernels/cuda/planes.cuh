// Classes apart, rows next to each other, as in [classes, rows] tiles of images. A thread has some
// classes of kRows neighbouring rows in registers; the threads of the other classes of those rows are in
// its block, and they meet in shared memory.
#pragma once

#include "kernels/cuda/general.cuh"
#include "kernels/cuda/row.cuh"
#include "kernels/cuda/vector.cuh"

namespace softloss::cuda {
namespace planes {

inline constexpr int kElements = 16;  // of a thread
inline constexpr int kMaxThreads = 384;

// What the threads of a group found about a row, and what came of it.
template <typename Real>
struct Part {
  Real max, rest, linear, mass;
};
template <typename Real>
struct Result {
  Real max, scale, weight;  // weight 0: not scored
  Real unused;              // keeps what follows aligned
};

// A block's shared memory, before parts and results.
struct State {
  double scratch[4 * kMaxWarps];
};

// Bytes of shared memory for `groups` groups of threads over `rows` rows.
template <typename Real>
__host__ __device__ constexpr int SharedBytes(int groups, int rows) {
  return static_cast<int>(sizeof(State)) + static_cast<int>(sizeof(Part<Real>)) * groups * rows +
         static_cast<int>(sizeof(Result<Real>)) * rows;
}

// Where a thread's elements are: classes group, group + groups, … of neighbouring rows.
struct Place {
  std::int64_t first_row;
  std::int64_t first;  // element of its first class
  std::int64_t step;   // elements between its classes
  int group;
  int groups;
  int classes;  // 0: the thread has nothing to do
  int count;    // rows that are there
  bool aligned;

  __device__ int ClassOf(int j) const { return group + j * groups; }
  __device__ bool Has(int j) const { return ClassOf(j) < classes; }
  // The thread's first element of its j-th class; some other where it has none.
  __device__ std::int64_t At(int j) const { return Has(j) ? first + j * step : first_row; }
};

template <DType D, typename Real, int kClasses, int kRows>
__device__ inline void LoadPart(const Place& place, const void* tensor, DType dtype, int elements,
                                Real (&out)[kClasses][kRows]) {
#pragma unroll
  for (int j = 0; j < kClasses; ++j) {
    if (j >= elements) break;
    if constexpr (D == kAnyDType || sizeof(Real) == 8) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) out[j][r] = Load<Real, D>(tensor, place.At(j) + r, dtype);
    } else {
      LoadVector<D, kRows>(static_cast<const std::byte*>(tensor) + place.At(j) * kSizeOf<D>,
                           place.aligned, out[j]);
    }
  }
}

template <DType D, typename Real, int kClasses, int kRows>
__device__ inline void StorePart(const Place& place, void* tensor, int elements,
                                 const Real (&v)[kClasses][kRows]) {
#pragma unroll
  for (int j = 0; j < kClasses; ++j) {
    if (j >= elements || !place.Has(j)) break;
    if constexpr (D != DType::kF64 && sizeof(Real) == 4) {
      if (place.aligned) {
        StoreVector<D, kRows>(static_cast<std::byte*>(tensor) + place.At(j) * kSizeOf<D>, v[j]);
        continue;
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r < place.count) Store<Real, D>(tensor, place.At(j) + r, D, v[j][r]);
    }
  }
}

template <class T, int kRows>
__global__ void __launch_bounds__(kMaxThreads, sizeof(typename T::Real) == 4 ? 2 : 1)
    Kernel(const __grid_constant__ Params p) {
  using Real = typename T::Real;
  constexpr int kClasses = kElements / kRows;
  double* const scratch = SharedState<State>()->scratch;
  auto* const results = reinterpret_cast<Result<Real>*>(SharedAfter<State>());
  auto* const parts = reinterpret_cast<Part<Real>*>(results + p.tile_rows);

  const std::int64_t leaf_of_launch = blockIdx.x;
  const DeviceSegment& s = FindSegment(p.segments, p.count, leaf_of_launch);
  const std::int64_t leaf = leaf_of_launch - s.first_leaf;
  const std::int64_t leaf_begin = leaf * p.leaf_rows;
  const int leaf_rows =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - leaf_begin));
  const bool aligned = s.rows % kRows == 0;
  if (!IsPlain(p, s)) {
    ScoreLeaf<Real>(p, s, leaf, scratch);
    return;
  }

  const int across = p.tile_rows / kRows;
  const int group = static_cast<int>(threadIdx.x) / across;
  const int column = static_cast<int>(threadIdx.x) % across * kRows;  // in the tile
  // Threads that each merge some groups' parts of one row.
  int mergers = 1;
  while (mergers < 16 && 2 * mergers * p.tile_rows <= static_cast<int>(blockDim.x)) mergers *= 2;
  const int merger = static_cast<int>(threadIdx.x) % mergers;

  Totals totals;
  for (int tile = 0; tile < leaf_rows; tile += p.tile_rows) {
    const int rows = min(p.tile_rows, leaf_rows - tile);
    const std::int64_t tile_begin = leaf_begin + tile;
    const bool busy = group < p.groups && column < rows;
    Place place;
    place.first_row = tile_begin + (busy ? column : 0);
    place.first = group * s.rows + place.first_row;
    place.step = p.groups * s.rows;
    place.group = group;
    place.groups = p.groups;
    place.classes = busy ? p.classes : 0;
    place.count = rows - column;
    place.aligned = aligned;
    Real x[kClasses][kRows];
    Real t[kClasses][kRows];
    LoadPart<T::kPrediction>(place, s.prediction, p.prediction, p.elements, x);
    if (T::kLabel == kAnyDType && p.class_ids) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = place.first_row + r;
        const std::int64_t id = row < s.rows ? LoadId(s.label, row, p.label) : -1;
#pragma unroll
        for (int j = 0; j < kClasses; ++j) t[j][r] = place.ClassOf(j) == id ? 1 : 0;
      }
    } else {
      LoadPart<T::kLabel>(place, s.label, p.label, p.elements, t);
    }

    // Pixels past the last row were read from others; what they hold may make for idle counting.
    bool odd = false;
    const bool over_255 = (T::kLabel == kAnyDType ? p.label : T::kLabel) == DType::kU8;
#pragma unroll
    for (int j = 0; j < kClasses; ++j) {  // all, as they are summed up in fours
      const bool there = place.Has(j);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        t[j][r] = there ? DecodeLabel(t[j][r], over_255) : Real{0};
        odd |= (there && !IsFinite(x[j][r])) || !InUnitInterval(t[j][r]);
        if (!there) x[j][r] = -Infinity<Real>();
      }
    }

    Real max[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      Real values[kClasses];
#pragma unroll
      for (int j = 0; j < kClasses; ++j) values[j] = x[j][r];
      const Sums<Real> sums = SumElements(
          values, [&](int j) { return t[j][r]; }, p.elements, 1);
      max[r] = sums.max;
#pragma unroll
      for (int j = 0; j < kClasses; ++j) x[j][r] = values[j];
      if (busy) {
        parts[group * p.tile_rows + column + r] = {sums.max, static_cast<Real>(sums.rest),
                                                   static_cast<Real>(sums.linear),
                                                   static_cast<Real>(sums.mass)};
      }
    }
    __syncthreads();
    for (int first = 0; first < p.tile_rows; first += static_cast<int>(blockDim.x) / mergers) {
      const int r = first + static_cast<int>(threadIdx.x) / mergers;
      Sums<Real> sums;
      if (r < rows) {
        for (int g = merger; g < p.groups; g += mergers) {
          const Part<Real> part = parts[g * p.tile_rows + r];
          const Sums<Real> other = {part.max, static_cast<double>(part.rest),
                                    static_cast<double>(part.linear),
                                    static_cast<double>(part.mass)};
          if (g == merger)
            sums = other;
          else
            Merge(sums, other);
        }
      }
      MergeLanes(sums, mergers);
      if (r < rows && merger == 0) {
        const std::int64_t index = tile_begin + r;
        const Row<Real> row = ReadRow<Real>(p, s, index, true, true);
        FinishRow(p, s, row, index, sums, sums.mass, sums.mass, &totals);
        results[r].max = sums.max;
        results[r].scale = GradientScale(sums);
        results[r].weight = row.scored() ? row.weight : Real{0};
      }
    }
    __syncthreads();

    if (p.has_gradient && busy) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const bool present = column + r < rows;
        const Result<Real>& result = results[present ? column + r : 0];
        const Real row_weight = result.weight;
        const bool scored = present && row_weight != 0;
        const Real scale = result.scale * Factor(max[r], result.max);
        Real square = 0;
#pragma unroll
        for (int j = 0; j < kClasses; ++j) {
          if (j >= p.elements) break;
          const Real g = place.Has(j) ? Fma(x[j][r], scale, -t[j][r]) : Real{0};
          square = Fma(g, g, square);
          x[j][r] = scored ? g * row_weight : Real{0};
        }
        if (scored) AddSquare(square, row_weight, &totals);
      }
      switch (p.gradient) {
        case DType::kF32: StorePart<DType::kF32>(place, s.gradient, p.elements, x); break;
        case DType::kF16: StorePart<DType::kF16>(place, s.gradient, p.elements, x); break;
        case DType::kBF16: StorePart<DType::kBF16>(place, s.gradient, p.elements, x); break;
        default: StorePart<DType::kF64>(place, s.gradient, p.elements, x); break;
      }
    }
    if (odd) {
      for (int r = 0; r < kRows && column + r < rows; ++r) {
        if (!ReadRow<Real>(p, s, place.first_row + r, true, false).scored()) continue;
        CountElements<Real>(p, s, place.first_row + r, s.rows, group, p.groups, 1, p.classes);
      }
    }
    __syncthreads();  // before the next tile's parts
  }
  WriteLeaf(totals, s, leaf, scratch);
}

}  // namespace planes
}  // namespace softloss::cuda
