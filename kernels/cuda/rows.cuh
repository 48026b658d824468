// Rows whose classes lie together (or `stride` apart, where nothing better fits): several threads a row,
// which hold it in registers: a power of two of a warp's lanes, warps of a block, or a cluster of blocks.
//
// A thread has kElements of the row at a time, V next to each other. Rows too long for that are gone
// over in chunks, twice: backwards the second time, so that what was read last is still near.
#pragma once

#include <cooperative_groups.h>

#include "kernels/cuda/general.cuh"
#include "kernels/cuda/row.cuh"
#include "kernels/cuda/vector.cuh"

#if __CUDA_ARCH__ >= 900 || defined(SOFTLOSS_CUDA_EMULATION)
#define SOFTLOSS_CUDA_CLUSTERS 1
#endif

namespace softloss::cuda {
namespace rows {

inline constexpr int kElements = 16;
inline constexpr int kMaxCluster = 16;

// The threads that share a row: some lanes of a warp; warps of a block; blocks of a cluster; and those
// again (a cluster of one block, perhaps), in chunks.
enum class Scope { kWarp, kBlock, kCluster, kChunks };

// Of a block, at most. Fewer leave each the registers that it needs, and more blocks to overlap.
constexpr int MaxThreads(Scope scope) { return scope == Scope::kChunks ? 512 : 256; }

// What the threads of a row, and of a leaf, tell each other.
struct Exchange {
  double warps[2][kMaxWarps][4];
  double blocks[2][kMaxCluster][4];
};

// A block's shared memory.
struct State {
  Exchange exchange;
  double scratch[4 * kMaxWarps];
};

__device__ inline void ArriveAtCluster() {
#ifdef SOFTLOSS_CUDA_CLUSTERS
  cooperative_groups::this_cluster().barrier_arrive();
#endif
}
__device__ inline void WaitForCluster() {
#ifdef SOFTLOSS_CUDA_CLUSTERS
  cooperative_groups::this_cluster().barrier_wait();
#endif
}

// Merges over the threads that share a row. All threads of the block take part. Two sets of slots take
// turns, so that one barrier an exchange is enough.
template <Scope kScope>
class Group {
 public:
  // In a cluster, to be made once by every block: others may only write to it after that.
  __device__ Group(int threads, int blocks, Exchange* exchange)
      : threads_(threads), blocks_(blocks), exchange_(exchange) {
    if (Clustered()) ArriveAtCluster();
  }

  // What SumElements gave for each warp's lanes becomes the row's. Once in a cluster's life.
  template <typename Real>
  __device__ void Merge(Sums<Real>& s) {
    if constexpr (kScope == Scope::kWarp) return;
    double v[4] = {static_cast<double>(s.max), s.rest, s.linear, s.mass};
    const int warps = FromWarps(v);
    s = {static_cast<Real>(v[0]), v[1], v[2], v[3]};
    MergeLanes(s, warps);
    if (!Clustered()) return;
    WaitForCluster();
    double b[4] = {static_cast<double>(s.max), s.rest, s.linear, s.mass};
    FromBlocks(b);
    s = {static_cast<Real>(b[0]), b[1], b[2], b[3]};
    MergeLanes(s, blocks_);
  }

  // Over the blocks of a cluster, each of which has one set of values in all its threads.
  __device__ void SumBlocks(double (&v)[4]) {
    if (!Clustered()) return;
    FromBlocks(v);
    SumLanes(v, blocks_);
  }

 private:
  __device__ bool Clustered() const {
    return kScope == Scope::kCluster || (kScope == Scope::kChunks && blocks_ > 1);
  }

  // Leaves in each lane the values of one of the row's warps, again and again; returns their number.
  __device__ int FromWarps(double (&v)[4]) {
    const int warp = threadIdx.x / kWarp;
    const int lane = threadIdx.x % kWarp;
    const int warps = threads_ / kWarp;
    if (lane == 0) {
#pragma unroll
      for (int i = 0; i < 4; ++i) exchange_->warps[turn_][warp][i] = v[i];
    }
    __syncthreads();
    const double* from = exchange_->warps[turn_][(warp & ~(warps - 1)) + (lane & (warps - 1))];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = from[i];
    turn_ ^= 1;
    return warps;
  }

  __device__ void FromBlocks(double (&v)[4]) {
#ifdef SOFTLOSS_CUDA_CLUSTERS
    namespace cg = cooperative_groups;
    cg::cluster_group cluster = cg::this_cluster();
    if (static_cast<int>(threadIdx.x) < blocks_) {
      double* to = cluster.map_shared_rank(exchange_->blocks[block_turn_][cluster.block_rank()],
                                           threadIdx.x);
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = v[i];
    }
    ArriveAtCluster();
    WaitForCluster();
    const double* from = exchange_->blocks[block_turn_][threadIdx.x & (blocks_ - 1)];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = from[i];
    block_turn_ ^= 1;
#endif
  }

  int threads_;
  int blocks_;
  Exchange* exchange_;
  int turn_ = 0;
  int block_turn_ = 0;
};

// A thread's part of a row: how its elements come and go.
template <class T, int V>
class Part {
 public:
  using Real = typename T::Real;
  static constexpr int kN = kElements;

  // `at` is the row's element of class 0, `stride` the elements between classes (1 if V > 1). The block
  // has classes [begin, end), the thread those of begin + lane·V + i·step, and V - 1 after each.
  __device__ Part(const Params& p, const DeviceSegment& s, std::int64_t at, std::int64_t stride,
                  int begin, int end, int lane, int id)
      : p_(p),
        s_(s),
        at_(at),
        stride_(stride),
        first_(begin + lane * V),
        step_(p.threads_per_row * V),
        end_(end),
        id_(id) {}

  __device__ int ClassOf(int chunk, int j) const {
    return first_ + (chunk * (kN / V) + j / V) * step_ + j % V;
  }
  __device__ bool Has(int chunk, int j) const { return ClassOf(chunk, j) < end_; }

  // `odd`: whether there is anything to count.
  __device__ void Load(int chunk, Real (&x)[kN], Real (&t)[kN], bool* odd) const {
    LoadPredictions(chunk, x);
    LoadLabels(chunk, t);
#pragma unroll
    for (int j = 0; j < kN; ++j) *odd |= !IsFinite(x[j]) | !InUnitInterval(t[j]);
    if (!Has(chunk, kN - V)) {
      Pad(chunk, x, -Infinity<Real>());
      Pad(chunk, t, Real{0});
    }
  }

  __device__ void Count() const {
    CountElements<Real>(p_, s_, at_, stride_, first_, step_, V, end_);
  }

  __device__ void StoreGradient(int chunk, const Real (&g)[kN]) const {
    if constexpr (V > 1) {
      constexpr std::int64_t kSize = kSizeOf<T::kPrediction>;
      std::byte* mine = static_cast<std::byte*>(s_.gradient) + (at_ + first_) * kSize;
#pragma unroll
      for (int k = 0; k < kN / V; ++k) {
        if (!Has(chunk, k * V)) break;
        StoreVector<T::kPrediction, V>(mine + (chunk * (kN / V) + k) * step_ * kSize, g + k * V);
      }
    } else {
      switch (p_.gradient) {
        case DType::kF32: Store<DType::kF32>(chunk, g); break;
        case DType::kF16: Store<DType::kF16>(chunk, g); break;
        case DType::kBF16: Store<DType::kBF16>(chunk, g); break;
        default: Store<DType::kF64>(chunk, g); break;
      }
    }
  }

 private:
  __device__ void LoadPredictions(int chunk, Real (&x)[kN]) const {
    if constexpr (V > 1) {
      Vectors<T::kPrediction>(s_.prediction, chunk, x);
    } else {
      Elements(s_.prediction, p_.prediction, chunk, x);
    }
  }

  __device__ void LoadLabels(int chunk, Real (&t)[kN]) const {
    if (T::kLabel == kAnyDType && p_.class_ids) {
#pragma unroll
      for (int j = 0; j < kN; ++j) t[j] = ClassOf(chunk, j) == id_ ? 1 : 0;
      return;
    }
    if constexpr (V == 1) {
      Elements(s_.label, p_.label, chunk, t);
    } else {
      Vectors<T::kLabel>(s_.label, chunk, t);
    }
    if ((T::kLabel == kAnyDType && p_.label == DType::kU8) || T::kLabel == DType::kU8) {
#pragma unroll
      for (int j = 0; j < kN; ++j) t[j] = Over255(t[j]);
    }
  }

  // Absent elements are read from the row's first place, so that nothing waits for a branch.
  template <DType D>
  __device__ void Vectors(const void* tensor, int chunk, Real (&out)[kN]) const {
    const std::byte* mine =
        static_cast<const std::byte*>(tensor) + (at_ + first_) * std::int64_t{kSizeOf<D>};
#pragma unroll
    for (int k = 0; k < kN / V; ++k) {
      const int ahead = Has(chunk, k * V) ? (chunk * (kN / V) + k) * step_ : -first_;
      LoadVector<D, V>(mine + ahead * std::int64_t{kSizeOf<D>}, true, out + k * V);
    }
  }

  template <DType D>
  __device__ void ElementsOf(const void* tensor, int chunk, Real (&out)[kN]) const {
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const int c = Has(chunk, j) ? ClassOf(chunk, j) : 0;
      out[j] = cuda::Load<Real, D>(tensor, at_ + c * stride_, D);
    }
  }
  __device__ void Elements(const void* tensor, DType dtype, int chunk, Real (&out)[kN]) const {
    switch (dtype) {
      case DType::kF32: ElementsOf<DType::kF32>(tensor, chunk, out); break;
      case DType::kF16: ElementsOf<DType::kF16>(tensor, chunk, out); break;
      case DType::kBF16: ElementsOf<DType::kBF16>(tensor, chunk, out); break;
      case DType::kU8: ElementsOf<DType::kU8>(tensor, chunk, out); break;
      default: ElementsOf<DType::kF64>(tensor, chunk, out); break;
    }
  }
  template <DType D>
  __device__ void Store(int chunk, const Real (&g)[kN]) const {
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (!Has(chunk, j)) break;
      cuda::Store<Real, D>(s_.gradient, at_ + ClassOf(chunk, j) * stride_, D, g[j]);
    }
  }

  __device__ void Pad(int chunk, Real (&v)[kN], Real padding) const {
#pragma unroll
    for (int k = 0; k < kN / V; ++k) {
      if (Has(chunk, k * V)) continue;
#pragma unroll
      for (int j = 0; j < V; ++j) v[k * V + j] = padding;
    }
  }

  const Params& p_;
  const DeviceSegment& s_;
  const std::int64_t at_;
  const std::int64_t stride_;
  const int first_;
  const int step_;
  const int end_;
  const int id_;
};

template <class T, int V, Scope kScope>
__global__ void __launch_bounds__(MaxThreads(kScope),
                                  sizeof(typename T::Real) == 4 && kScope != Scope::kChunks ? 3 : 1)
    Kernel(const __grid_constant__ Params p) {
  using Real = typename T::Real;
  constexpr bool kChunked = kScope == Scope::kChunks;
  Exchange& exchange = SharedState<State>()->exchange;
  double* const scratch = SharedState<State>()->scratch;

  constexpr bool kAlone = kScope == Scope::kWarp || kScope == Scope::kBlock;
  const int rank = kAlone ? 0 : static_cast<int>(blockIdx.x) & (p.blocks_per_row - 1);
  std::int64_t leaf = kAlone ? blockIdx.x : blockIdx.x / static_cast<unsigned>(p.blocks_per_row);
  const DeviceSegment& s = FindSegment(p.segments, p.count, leaf);
  leaf -= s.first_leaf;
  if (!IsPlain(p, s)) {
    if (rank == 0) ScoreLeaf<Real>(p, s, leaf, scratch);
    return;
  }
  Group<kScope> group(p.threads_per_row, p.blocks_per_row, &exchange);
  const std::int64_t leaf_begin = leaf * p.leaf_rows;
  const int leaf_rows =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - leaf_begin));
  const int lane = static_cast<int>(threadIdx.x) & (p.threads_per_row - 1);
  const int lanes_in_warp = kScope == Scope::kWarp ? p.threads_per_row : kWarp;
  const bool first_lane = lane == 0 && rank == 0;
  const int begin = rank * p.slice;
  const int end = min(p.classes, begin + p.slice);
  const int chunks = kChunked ? p.chunks : 1;

  Totals totals;
  const int rows_at_once = static_cast<int>(blockDim.x) / p.threads_per_row;
  for (int first = 0; first < leaf_rows; first += rows_at_once) {
    const int in_leaf = first + static_cast<int>(threadIdx.x) / p.threads_per_row;
    const bool present = in_leaf < leaf_rows;
    const std::int64_t index = leaf_begin + (present ? in_leaf : 0);
    const Row<Real> row = ReadRow<Real>(p, s, index, present, first_lane);
    const Part<T, V> part(p, s, p.class_last ? index * p.classes : index, p.class_last ? 1 : s.rows,
                          begin, present ? end : begin, lane, row.id);
    Real x[kElements];
    Real t[kElements];
    Sums<Real> sums;
    Real last_max;
    bool odd = false;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      part.Load(chunk, x, t, &odd);
      const Sums<Real> chunk_sums = SumElements(
          x, [&](int j) { return t[j]; }, kElements, lanes_in_warp);
      last_max = chunk_sums.max;
      if (!kChunked || chunk == 0)
        sums = chunk_sums;
      else
        Merge(sums, chunk_sums);
    }
    group.Merge(sums);
    if (first_lane && present) FinishRow(p, s, row, index, sums, sums.mass, sums.mass, &totals);

    const Real scale = GradientScale(sums);
    Real factor = scale * Factor(last_max, sums.max);
    for (int chunk = p.has_gradient && present ? chunks - 1 : -1; chunk >= 0; --chunk) {
      if (kChunked && chunk != chunks - 1) {
        bool known;
        part.Load(chunk, x, t, &known);
#pragma unroll
        for (int j = 0; j < kElements; ++j) x[j] = Exp(x[j] - sums.max);
        factor = scale;
      }
      Real squares[2] = {};
#pragma unroll
      for (int j = 0; j < kElements; ++j) {
        const Real g = Fma(x[j], factor, -t[j]);
        squares[j % 2] = Fma(g, g, squares[j % 2]);
        x[j] = g * row.weight;
      }
      if (!row.scored()) {
#pragma unroll
        for (int j = 0; j < kElements; ++j) x[j] = 0;
      }
      if (row.scored()) AddSquare(squares[0] + squares[1], row.weight, &totals);
      part.StoreGradient(chunk, x);
    }
    if (odd && row.scored()) part.Count();
  }

  double total[4] = {totals.loss, totals.weight, totals.square, static_cast<double>(totals.valid)};
  SumBlock(total, scratch);
  group.SumBlocks(total);
  if (threadIdx.x == 0 && rank == 0) {
    s.leaves[leaf] = {total[0], total[1], total[2], static_cast<std::int64_t>(total[3])};
  }
}

}  // namespace rows
}  // namespace softloss::cuda
