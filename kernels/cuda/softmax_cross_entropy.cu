// Softmax cross entropy: a problem a row (kernels/loss.h has the formula).
//
// A block takes a leaf (a cluster of blocks, where a row alone is a leaf and large), and goes through
// it a tile of rows at a time: into shared memory, scored there, and the gradient out again, so that
// memory is read once and written once, in full lines, whatever the number of classes or the layout.
// `lanes` threads share a row. They pass over it for the maximum and the label's sum, for the
// sum of exponentials, and for the gradient. All shapes follow from the key and the device's kind.
// Rows that do not fit even a cluster's shared memory are passed over in global memory instead.
#include <cooperative_groups.h>

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/shared.cuh"
#include "kernels/cuda/start.h"
#include "kernels/cuda/tile.cuh"

namespace softloss::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kMaxThreads = kMaxWarps * kWarp;
constexpr int kFlush = 4;  // fp32 terms that a thread adds before it goes on in fp64
constexpr int kMaxCluster = 16;

struct Params {
  const DeviceSegment* segments;
  int count;
  std::int64_t classes;
  int leaf_rows;
  int tile_rows;        // rows in shared memory at a time
  int lanes;            // threads a row: a power of two ≤ 32, or the whole block
  int cluster;          // blocks a row
  std::int64_t slice;   // classes a block of the cluster has
  int line_stride;      // tiles: elements between class lines in shared memory
  int label_offset;     // bytes into shared memory
  int gradient_offset;  // may be the prediction's or the label's, if the sizes are the same
  int prediction_size;
  int label_size;
  int gradient_size;
  DType prediction;
  DType label;
  DType gradient;
  bool has_gradient;
  bool class_ids;
  bool row_sum;
  bool class_last;
  double tolerance;  // on |S - 1|
};

// Σ in fp32, moved on to fp64 every few terms.
template <typename Real>
struct Sum {
  Real part = 0;
  double total = 0;
  __device__ void Flush() {
    total += static_cast<double>(part);
    part = 0;
  }
};

// Calls visit(c) for c = begin + lane, + lanes, … < end, and flush() every kFlush calls and at the end.
// Whole groups go without a test between, so that their loads and exponentials overlap.
template <typename Index, typename Visit, typename Flush>
__device__ inline void ForEachClass(Index begin, Index end, int lane, int lanes, Visit visit,
                                    Flush flush) {
  Index c = begin + lane;
  for (; c + (kFlush - 1) * lanes < end; c += kFlush * lanes) {
#pragma unroll
    for (int j = 0; j < kFlush; ++j) visit(c + static_cast<Index>(j) * lanes);
    flush();
  }
  for (; c < end; c += lanes) visit(c);
  flush();
}

// Reductions over the threads (and blocks) that share a row. All threads of the block take part.
template <bool kCluster>
class RowGroup {
 public:
  __device__ RowGroup(int lanes, double* scratch, double* exchange)
      : lanes_(lanes), scratch_(scratch), exchange_(exchange) {}

  template <int N>
  __device__ void Sum(double (&v)[N]) {
    if (lanes_ <= kWarp) {
      SumLanes(v, lanes_);
      return;
    }
    SumBlock(v, scratch_);
    if constexpr (kCluster) {
      const int blocks = Exchange(v);
      const int block = threadIdx.x % kMaxCluster;
#pragma unroll
      for (int i = 0; i < N; ++i) v[i] = block < blocks ? exchange_[i * kMaxCluster + block] : 0.0;
      SumLanes(v, kMaxCluster);
    }
  }

  // NaN if any is.
  template <typename Real>
  __device__ Real Max(Real m) {
    for (int offset = min(lanes_, kWarp) / 2; offset > 0; offset /= 2) {
      m = MaxNan(m, __shfl_xor_sync(kAllLanes, m, offset));
    }
    if (lanes_ <= kWarp) return m;
    if (threadIdx.x % kWarp == 0) scratch_[threadIdx.x / kWarp] = m;
    __syncthreads();
    const int lane = threadIdx.x % kMaxWarps;
    m = lane < blockDim.x / kWarp ? static_cast<Real>(scratch_[lane]) : -Infinity<Real>();
    for (int offset = kMaxWarps / 2; offset > 0; offset /= 2) {
      m = MaxNan(m, __shfl_xor_sync(kAllLanes, m, offset));
    }
    __syncthreads();
    if constexpr (kCluster) {
      double v[1] = {static_cast<double>(m)};
      const int blocks = Exchange(v);
      const int block = threadIdx.x % kMaxCluster;
      m = block < blocks ? static_cast<Real>(exchange_[block]) : -Infinity<Real>();
      for (int offset = kMaxCluster / 2; offset > 0; offset /= 2) {
        m = MaxNan(m, __shfl_xor_sync(kAllLanes, m, offset));
      }
    }
    return m;
  }

 private:
  // Every block writes its values to every other's `exchange`; returns how many blocks there are.
  template <int N>
  __device__ int Exchange(const double (&v)[N]) {
#if __CUDA_ARCH__ >= 900 || defined(SOFTLOSS_CUDA_EMULATION)
    cg::cluster_group cluster = cg::this_cluster();
    const int size = static_cast<int>(cluster.num_blocks());
    const int rank = static_cast<int>(cluster.block_rank());
    cluster.sync();  // nobody still reads the last exchange
    if (static_cast<int>(threadIdx.x) < size) {
      double* target = cluster.map_shared_rank(exchange_, threadIdx.x);
#pragma unroll
      for (int i = 0; i < N; ++i) target[i * kMaxCluster + rank] = v[i];
    }
    cluster.sync();
    return size;
#else
    return 1;
#endif
  }

  int lanes_;
  double* scratch_;
  double* exchange_;
};

// A row's elements where the passes find them: in shared or in global memory.
template <typename Index>
struct RowView {
  const std::byte* prediction;
  const std::byte* label;
  std::byte* gradient;
  Index first;   // element of class 0 (may be negative: a cluster's block has a slice only)
  Index stride;  // elements between classes
};

struct BlockState {
  double scratch[5 * kMaxWarps];
  double exchange[5 * kMaxCluster];
};

template <class T, bool kShared, bool kCluster>
__global__ void __launch_bounds__(kMaxThreads, sizeof(typename T::Real) == 4 ? 2 : 1)
    SoftmaxKernel(const Params p) {
  using Real = typename T::Real;
  using Index = std::conditional_t<kShared, int, std::int64_t>;
  double* const scratch = SharedState<BlockState>()->scratch;
  double* const exchange = SharedState<BlockState>()->exchange;
  std::byte* const shared = SharedAfter<BlockState>();
  const int rank = kCluster ? static_cast<int>(blockIdx.x % p.cluster) : 0;
  std::int64_t leaf = kCluster ? blockIdx.x / p.cluster : blockIdx.x;
  const DeviceSegment& s = FindSegment(p.segments, p.count, leaf);
  leaf -= s.first_leaf;
  const std::int64_t leaf_begin = leaf * p.leaf_rows;
  const int leaf_rows =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - leaf_begin));
  const Index class_begin = static_cast<Index>(rank * p.slice);
  const Index class_end = static_cast<Index>(min(p.classes, (rank + 1) * p.slice));

  const int lanes = p.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int row_in_tile = static_cast<int>(threadIdx.x) / lanes;
  const bool first_lane = lane == 0 && rank == 0;
  RowGroup<kCluster> group(lanes, scratch, exchange);

  // Kernels of fixed dtypes have dense labels, and know how they are stored.
  constexpr bool kTyped = T::kLabel != kAnyDType;
  const bool class_ids = !kTyped && p.class_ids;
  const bool row_sum = (!kTyped || T::kLabel == DType::kU8) && p.row_sum;
  const bool over_255 = (kTyped ? T::kLabel : p.label) == DType::kU8 && !row_sum;
  // ROW_SUM leaves S = 1 or 0, and a class id S = 1: nothing to renormalise.
  const bool renormalize = s.renormalize && !row_sum && !class_ids;
  const bool divide = row_sum || renormalize;
  const bool plain = !renormalize && s.label_smoothing == 0 && s.class_weight == nullptr;
  const Real keep = Real{1} - static_cast<Real>(s.label_smoothing);
  const Real spread = static_cast<Real>(s.label_smoothing) / static_cast<Real>(p.classes);

  double loss_sum = 0;
  double weight_sum = 0;
  double square_sum = 0;
  int valid_count = 0;
  Conditions conditions;

  for (int tile_begin = 0; tile_begin < leaf_rows; tile_begin += p.tile_rows) {
    const int rows = min(p.tile_rows, leaf_rows - tile_begin);
    const std::int64_t row_begin = leaf_begin + tile_begin;
    // The tile's first element: of a run of rows (of a slice of one row), or of its first class line.
    const std::int64_t origin = p.class_last ? row_begin * p.classes + class_begin : row_begin;
    const auto* prediction =
        static_cast<const std::byte*>(s.prediction) + origin * p.prediction_size;
    const auto* label = static_cast<const std::byte*>(s.label) + origin * p.label_size;
    auto* gradient = static_cast<std::byte*>(s.gradient) + origin * p.gradient_size;
    const int run = static_cast<int>(rows * (class_end - class_begin));

    if constexpr (kShared) {
      if (p.class_last) {
        LoadRun(prediction, run * p.prediction_size, shared);
        if (!class_ids) LoadRun(label, run * p.label_size, shared + p.label_offset);
      } else {
        LoadLines(prediction, s.rows * p.prediction_size, static_cast<int>(p.classes), rows,
                  p.prediction_size, shared, p.line_stride * p.prediction_size);
        if (!class_ids) {
          LoadLines(label, s.rows * p.label_size, static_cast<int>(p.classes), rows, p.label_size,
                    shared + p.label_offset, p.line_stride * p.label_size);
        }
      }
      __pipeline_commit();
      __pipeline_wait_prior(0);
      __syncthreads();
    }

    RowView<Index> view;
    if constexpr (kShared) {
      const bool runs = p.class_last;
      view.prediction = shared + (runs ? Shift(prediction) : 0);
      view.label = shared + p.label_offset + (runs ? Shift(label) : 0);
      view.gradient = shared + p.gradient_offset + (runs ? Shift(gradient) : 0);
      view.first = runs ? row_in_tile * (class_end - class_begin) - class_begin : row_in_tile;
      view.stride = runs ? 1 : p.line_stride;
    } else {
      view.prediction = prediction;
      view.label = label;
      view.gradient = gradient;
      view.first = p.class_last ? row_in_tile * p.classes - class_begin : row_in_tile;
      view.stride = p.class_last ? 1 : s.rows;
    }
    const auto x_at = [&](Index c) {
      return Load<Real, T::kPrediction>(view.prediction, view.first + c * view.stride,
                                        p.prediction);
    };

    // What the row is, before its elements are looked at.
    const bool present = row_in_tile < rows;
    const std::int64_t row = row_begin + row_in_tile;
    bool live = present && (s.mask == nullptr || s.mask[row] != 0);
    Real row_weight = 1;
    if (live && s.row_weight != nullptr) {
      row_weight = s.row_weight[row];
      if (!(row_weight >= 0 && IsFinite(row_weight))) {
        if (first_lane) ReportBadRow(row, &s.counters->bad_row_weight);
        live = false;
      }
    }
    std::int64_t id = -1;
    if (live && class_ids) {
      id = LoadId(s.label, row, p.label);
      if (s.has_ignore_index && id == s.ignore_index) {
        live = false;
      } else if (id < 0 || id >= p.classes) {
        if (first_lane) ReportBadRow(row, &s.counters->bad_label);
        live = false;
      }
    }
    const auto raw_label = [&](Index c) -> Real {
      if (class_ids) return c == id ? 1 : 0;
      return DecodeLabel(Load<Real, T::kLabel>(view.label, view.first + c * view.stride, p.label),
                         over_255);
    };

    // Where labels are divided by their sum, or a row may be ignored for them, they go first.
    const Index live_end = live ? class_end : class_begin;
    Real divisor = 1;
    if (divide) {
      Sum<Real> raw;
      ForEachClass(
          class_begin, live_end, lane, lanes, [&](Index c) { raw.part += raw_label(c); },
          [&] { raw.Flush(); });
      double sum[1] = {raw.total};
      group.Sum(sum);
      if (sum[0] != 0) divisor = static_cast<Real>(sum[0]);
    }
    const auto decoded = [&](Index c) { return row_sum ? raw_label(c) / divisor : raw_label(c); };
    if (s.has_ignore_value && !class_ids) {
      int ignored = 0;
      ForEachClass(
          class_begin, live_end, lane, lanes,
          [&](Index c) { ignored += IsIgnored(decoded(c), s.ignore_value); }, [] {});
      double count[1] = {static_cast<double>(ignored)};
      group.Sum(count);
      if (count[0] == static_cast<double>(p.classes)) live = false;
    }
    valid_count += live && first_lane;
    const bool scored = live && row_weight != 0;
    const Index end = scored ? class_end : class_begin;

    // First pass: the maximum. Whether anything is odd is noted here and below, and counted only then.
    Real lane_max = -Infinity<Real>();
    bool odd = false;
    ForEachClass(
        class_begin, end, lane, lanes,
        [&](Index c) {
          const Real x = x_at(c);
          lane_max = MaxNan(lane_max, x);
          odd |= !IsFinite(x);
        },
        [] {});
    const Real max = group.Max(lane_max);
    const bool bad = !IsFinite(max);

    // Second pass: Σ e^(x-m) without the maximum (so that ln d keeps its digits where d is near 1),
    // how often the maximum occurs, Σ t·(m-x) and Σ t; and if t is not the label as decoded, the
    // label's own sum and weight.
    const auto target = [&](Real t, Index c) {
      if (renormalize) t = t / divisor;
      if (s.label_smoothing != 0) t = Fma(keep, t, spread);
      if (s.class_weight != nullptr) t *= s.class_weight[c];
      return t;
    };
    Sum<Real> others, linear, mass, label_sum, label_weight;
    int maxima = 0;
    const auto second_pass = [&](auto is_plain) {
      ForEachClass(
          class_begin, end, lane, lanes,
          [&](Index c) {
            const Real x = x_at(c);
            const Real below = x - max;
            const Real e = ExpOfDifference(x, max, below);
            const bool is_maximum = below == 0;
            maxima += is_maximum;
            others.part += is_maximum ? Real{0} : e;
            Real t = decoded(c);
            odd |= !(t >= 0 && t <= 1);
            if constexpr (!decltype(is_plain)::value) {
              label_sum.part += t;
              Real w = renormalize ? t / divisor : t;
              if (s.class_weight != nullptr) w *= s.class_weight[c];
              label_weight.part += w;
              t = target(t, c);
            }
            linear.part = Fma(t, t != 0 ? -below : Real{0}, linear.part);
            mass.part += t;
          },
          [&] {
            others.Flush();
            linear.Flush();
            mass.Flush();
            if constexpr (!decltype(is_plain)::value) {
              label_sum.Flush();
              label_weight.Flush();
            }
          });
    };
    if (plain)
      second_pass(std::true_type());
    else
      second_pass(std::false_type());
    if (odd) {
      for (Index c = class_begin + lane; c < end; c += lanes) {
        conditions.nonfinite_predictions += !IsFinite(x_at(c));
        if (class_ids) continue;
        const Real t = decoded(c);
        conditions.nonfinite_labels += !IsFinite(t);
        conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
      }
    }
    double sums[4] = {others.total, static_cast<double>(maxima), linear.total, mass.total};
    group.Sum(sums);
    double label_sums[2] = {sums[3], sums[3]};
    if (!plain) {
      label_sums[0] = label_sum.total;
      label_sums[1] = label_weight.total;
      group.Sum(label_sums);
    }
    const double rest = sums[0] + (sums[1] - 1);
    if (first_lane && present) {
      Real loss = 0;
      if (scored) {
        const double log_d = static_cast<double>(Log1p(static_cast<Real>(rest)));
        loss =
            bad ? Nan<Real>()
                : static_cast<Real>((sums[2] + sums[3] * log_d) * static_cast<double>(row_weight));
        loss_sum += static_cast<double>(loss);
        weight_sum += static_cast<double>(row_weight) * label_sums[1];
        conditions.nonfinite_losses += !IsFinite(loss);
        if (!class_ids) conditions.unnormalized_labels += fabs(label_sums[0] - 1) > p.tolerance;
      }
      if (s.row_loss != nullptr) static_cast<Real*>(s.row_loss)[row] = loss;
    }

    // Third pass: S·p - t. It may overwrite the prediction or the label: each thread reads an element
    // before it writes that one, and nobody else reads it.
    if (p.has_gradient) {
      const Real scale = bad ? Nan<Real>() : static_cast<Real>(sums[3] / (1.0 + rest));
      Sum<Real> square;  // without the row's weight, which might take it out of range
      const auto third_pass = [&](auto is_plain) {
        ForEachClass(
            class_begin, class_end, lane, lanes,
            [&](Index c) {
              Real t = decoded(c);
              if constexpr (!decltype(is_plain)::value) t = target(t, c);
              const Real g = Fma(Exp(x_at(c) - max), scale, -t);
              square.part = Fma(g, g, square.part);
              Store<Real, T::kGradient>(view.gradient, view.first + c * view.stride, p.gradient,
                                        g * row_weight);
            },
            [&] { square.Flush(); });
      };
      if (!scored) {
        ForEachClass(
            class_begin, present ? class_end : class_begin, lane, lanes,
            [&](Index c) {
              Store<Real, T::kGradient>(view.gradient, view.first + c * view.stride, p.gradient,
                                        Real{0});
            },
            [] {});
      } else if (plain) {
        third_pass(std::true_type());
      } else {
        third_pass(std::false_type());
      }
      const double w = row_weight;
      square_sum += square.total == 0 ? 0 : square.total * (w * w);
      if constexpr (kShared) {
        __syncthreads();
        if (p.class_last) {
          StoreRun(shared + p.gradient_offset, run * p.gradient_size, gradient);
        } else {
          StoreLines(shared + p.gradient_offset, p.line_stride * p.gradient_size,
                     static_cast<int>(p.classes), rows, p.gradient_size, gradient,
                     s.rows * p.gradient_size);
        }
      }
    }
    if constexpr (kShared) __syncthreads();  // before the next tile overwrites this one
  }

  AddConditions(conditions, s.counters);
  double total[4] = {loss_sum, weight_sum, square_sum, static_cast<double>(valid_count)};
  RowGroup<kCluster>(kMaxThreads, scratch, exchange).Sum(total);
  if (threadIdx.x == 0 && rank == 0) {
    s.leaves[leaf] = {total[0], total[1], total[2], static_cast<std::int64_t>(total[3])};
  }
}

std::int64_t PowerOfTwoAtLeast(std::int64_t n) {
  std::int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

// Threads a row for classes next to each other, up to 1024 of them: enough that neighbouring rows do
// not meet in the same banks, and that a thread has at most 32 elements.
int LanesPerRow(std::int64_t classes) {
  const std::int64_t lowest_bit = std::min<std::int64_t>(kWarp, classes & -classes);
  const std::int64_t lanes =
      std::max(lowest_bit / 2, PowerOfTwoAtLeast((classes + kWarp - 1) / kWarp));
  return static_cast<int>(std::clamp<std::int64_t>(lanes, 1, kWarp));
}

// Sets the offsets of a tile whose runs have `elements` elements each tensor, or whose lines take
// `elements` in all; returns its bytes.
std::int64_t LayOut(const KernelKey& key, std::int64_t elements, Params* p) {
  const std::int64_t prediction = RunBytes(elements * p->prediction_size);
  const std::int64_t label = key.class_ids ? 0 : RunBytes(elements * p->label_size);
  std::int64_t bytes = prediction + label;
  p->label_offset = static_cast<int>(prediction);
  p->gradient_offset = 0;
  if (key.has_gradient && p->gradient_size != p->prediction_size) {
    const bool in_label = !key.class_ids && p->gradient_size == p->label_size;
    p->gradient_offset = static_cast<int>(in_label ? prediction : bytes);
    if (!in_label) bytes += RunBytes(elements * p->gradient_size);
  }
  return bytes;
}

// Chooses how a leaf is shared out. Blocks want at most this much shared memory, so that several fit
// on a multiprocessor and one's loads hide behind another's arithmetic.
constexpr std::int64_t kTileBytes = 48 << 10;
constexpr std::int64_t kSliceBytes = 64 << 10;
constexpr int kTileThreads = 128;

bool ShapeClassLast(const KernelKey& key, const DeviceLimits& limits, Params* p, Shape* shape) {
  const std::int64_t classes = key.classes;
  if (classes <= 1024) {
    shape->threads = kTileThreads;
    p->lanes = LanesPerRow(classes);
    p->tile_rows = kTileThreads / p->lanes;
    shape->shared_bytes = static_cast<int>(LayOut(key, p->tile_rows * classes, p));
    return shape->shared_bytes <= limits.shared_bytes_per_block;
  }
  shape->threads = classes <= 2048 ? 128 : classes <= 4096 ? 256 : kMaxThreads;
  p->lanes = shape->threads;
  p->tile_rows = 1;
  shape->shared_bytes = static_cast<int>(LayOut(key, classes, p));
  if (key.leaf_rows == 1 && limits.max_cluster > 1) {
    p->cluster = static_cast<int>(std::min<std::int64_t>(
        limits.max_cluster,
        PowerOfTwoAtLeast((shape->shared_bytes + kSliceBytes - 1) / kSliceBytes)));
    p->slice = (classes + p->cluster - 1) / p->cluster;
    shape->shared_bytes = static_cast<int>(LayOut(key, p->slice, p));
  }
  return shape->shared_bytes <= limits.shared_bytes_per_block;
}

bool ShapeTile(const KernelKey& key, const DeviceLimits& limits, Params* p, Shape* shape) {
  const int smallest = std::min({p->prediction_size, key.class_ids ? 8 : p->label_size,
                                 key.has_gradient ? p->gradient_size : 8});
  const int unit = static_cast<int>(kChunk) / smallest;
  shape->threads = kTileThreads;
  p->tile_rows = static_cast<int>(std::min<std::int64_t>(key.leaf_rows, kTileThreads));
  for (;; p->tile_rows /= 2) {
    p->lanes = std::min(kWarp, kTileThreads / p->tile_rows);
    // Odd padding between class lines spreads a row's lanes over the banks.
    const int padded = p->tile_rows + (p->lanes > 1 ? kWarp / p->lanes : 0);
    p->line_stride = (padded + unit - 1) / unit * unit;
    shape->shared_bytes = static_cast<int>(LayOut(key, key.classes * p->line_stride, p));
    if (shape->shared_bytes <= kTileBytes || p->tile_rows <= 8) break;
  }
  return shape->shared_bytes <= limits.shared_bytes_per_block;
}

template <class T>
cudaError_t Run(const KernelKey& key, const DeviceLimits& limits, Params p, std::int64_t leaves,
                cudaStream_t stream) {
  Shape shape = {};
  p.cluster = 1;
  p.slice = key.classes;
  const bool fits =
      key.class_last ? ShapeClassLast(key, limits, &p, &shape) : ShapeTile(key, limits, &p, &shape);
  if (!fits) {
    p.cluster = 1;
    p.slice = key.classes;
    shape.threads = kMaxThreads;
    shape.shared_bytes = 0;
    p.lanes = kMaxThreads;
    p.tile_rows = 1;
    shape.blocks = leaves;
    shape.cluster = 1;
    shape.shared_bytes = static_cast<int>(sizeof(BlockState));
    return Start(SoftmaxKernel<T, false, false>, shape, stream, p);
  }
  shape.blocks = leaves * p.cluster;
  shape.cluster = p.cluster;
  shape.shared_bytes += static_cast<int>(sizeof(BlockState));
  return p.cluster > 1 ? Start(SoftmaxKernel<T, true, true>, shape, stream, p)
                       : Start(SoftmaxKernel<T, true, false>, shape, stream, p);
}

double LabelStep(const KernelKey& key) {
  switch (key.label) {
    case DType::kF16: return 0x1p-11;
    case DType::kBF16: return 0x1p-8;
    case DType::kF64: return 0x1p-53;
    case DType::kU8: return key.row_sum ? 0x1p-24 : 1.0 / 255;
    default: return 0x1p-24;
  }
}

}  // namespace

cudaError_t LaunchSoftmax(const KernelKey& key, const DeviceLimits& limits,
                          const DeviceSegment* segments, int count, std::int64_t leaves,
                          cudaStream_t stream) {
  Params p{};
  p.segments = segments;
  p.count = count;
  p.classes = key.classes;
  p.leaf_rows = static_cast<int>(key.leaf_rows);
  p.prediction = key.prediction;
  p.label = key.label;
  p.gradient = key.gradient;
  p.prediction_size = static_cast<int>(SizeOf(key.prediction));
  p.label_size = static_cast<int>(SizeOf(key.label));
  p.gradient_size = key.has_gradient ? static_cast<int>(SizeOf(key.gradient)) : 0;
  p.has_gradient = key.has_gradient;
  p.class_ids = key.class_ids;
  p.row_sum = key.row_sum;
  p.class_last = key.class_last;
  p.tolerance = 1e-4 + static_cast<double>(key.classes) * 0.5 * LabelStep(key);

  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
  const auto is = [&](DType prediction, DType label, DType gradient) {
    return key.prediction == prediction && key.label == label && !key.class_ids &&
           (!key.has_gradient || key.gradient == gradient);
  };
  if (key.prediction == DType::kF64) {
    return Run<Types<DType::kF64, kAnyDType, kAnyDType, double>>(key, limits, p, leaves, stream);
  }
  if (is(kF32, kF32, kF32)) {
    return Run<Types<kF32, kF32, kF32, float>>(key, limits, p, leaves, stream);
  }
  if (is(kF16, kF16, kF16)) {
    return Run<Types<kF16, kF16, kF16, float>>(key, limits, p, leaves, stream);
  }
  if (is(kBF16, kBF16, kBF16)) {
    return Run<Types<kBF16, kBF16, kBF16, float>>(key, limits, p, leaves, stream);
  }
  return Run<Types<kAnyDType, kAnyDType, kAnyDType, float>>(key, limits, p, leaves, stream);
}

}  // namespace softloss::cuda
