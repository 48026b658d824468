// Sigmoid cross entropy: an independent problem an element (kernels/loss.h has the formula).
//
// A leaf's elements are numbered in memory order (class-last: row by row; tiles: class line by class
// line, over a full leaf's rows) and dealt to the threads a few at a time. Which thread gets which
// element depends on the key and the spec alone; only the width of the loads depends on alignment.
#include <algorithm>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared.cuh"
#include "kernels/cuda/start.h"

namespace softloss::cuda {
namespace {

using namespace elements;  // NOLINT(google-build-using-namespace)

// A function of its own, so that what it needs does not cost the simple case registers.
template <class T>
__device__ __attribute__((noinline)) void RunAny(const Params& p, const DeviceSegment& s,
                                                 std::int64_t begin, int lane, Totals* totals) {
  LeafWorker<T>(p, s, begin).Run(lane, p.threads_per_leaf, totals);
}

struct Scratch {
  double v[4 * kMaxWarps];
};

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(typename T::Real) == 4 ? 3 : 1)
    SigmoidKernel(const __grid_constant__ Params p) {
  double* const scratch = SharedState<Scratch>()->v;

  const bool block_per_leaf = p.threads_per_leaf == kThreads;
  const int lane = block_per_leaf ? threadIdx.x : threadIdx.x % kWarp;
  std::int64_t leaf = block_per_leaf ? blockIdx.x
                                     : static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) +
                                           threadIdx.x / kWarp;
  if (leaf >= p.leaves) return;  // whole warps only, and none waits for them
  const DeviceSegment& s = FindSegment(p.segments, p.count, leaf);
  leaf -= s.first_leaf;

  Totals totals;
  bool simple = false;
  if constexpr (T::kPrediction != kAnyDType && T::kLabel != kAnyDType) {
    simple = SimpleLeaf<T>::Takes(p, s);
    if (simple) SimpleLeaf<T>(p, s, leaf * p.leaf_rows).Run(lane, p.threads_per_leaf, &totals);
  }
  if (!simple) RunAny<T>(p, s, leaf * p.leaf_rows, lane, &totals);

  if (simple) totals.weight = totals.valid;
  AddConditions(totals.conditions, s.counters);
  double sums[4] = {totals.loss, totals.weight, totals.square, static_cast<double>(totals.valid)};
  if (block_per_leaf)
    SumBlock(sums, scratch);
  else
    SumLanes(sums, kWarp);
  if (lane == 0) {
    s.leaves[leaf] = {sums[0], sums[1], sums[2], static_cast<std::int64_t>(sums[3])};
  }
}

template <class T>
cudaError_t Run(const Params& p, cudaStream_t stream) {
  const std::int64_t per_block = kThreads / p.threads_per_leaf;
  const std::int64_t blocks = (p.leaves + per_block - 1) / per_block;
  return Start(SigmoidKernel<T>, {blocks, kThreads, sizeof(Scratch), 1}, stream, p);
}

}  // namespace

cudaError_t LaunchSigmoid(const KernelKey& key, const DeviceSegment* segments, int count,
                          std::int64_t leaves, cudaStream_t stream) {
  const Params p = MakeParams(key, segments, count, leaves);

  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
  const auto is = [&](DType prediction, DType label, DType gradient) {
    return key.prediction == prediction && key.label == label && !key.class_ids &&
           (!key.has_gradient || key.gradient == gradient);
  };
  if (key.prediction == DType::kF64) {
    return Run<Types<DType::kF64, kAnyDType, kAnyDType, double>>(p, stream);
  }
  if (is(kF32, kF32, kF32)) return Run<Types<kF32, kF32, kF32, float>>(p, stream);
  if (is(kF16, kF16, kF16)) return Run<Types<kF16, kF16, kF16, float>>(p, stream);
  if (is(kBF16, kBF16, kBF16)) return Run<Types<kBF16, kBF16, kBF16, float>>(p, stream);
  if (is(kF32, DType::kU8, kF32)) return Run<Types<kF32, DType::kU8, kF32, float>>(p, stream);
  return Run<Types<kAnyDType, kAnyDType, kAnyDType, float>>(p, stream);
}

}  // namespace softloss::cuda
