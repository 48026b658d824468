#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

template <class T, int V>
cudaError_t Run(const DeviceLimits& limits, Params p, cudaStream_t stream) {
  using rows::kElements, rows::kMaxThreads;
  p.threads_per_row =
      std::min(kMaxThreads, PowerOfTwoAtLeast((p.classes + kElements - 1) / kElements));
  p.blocks_per_row = 1;
  constexpr std::int64_t kBlock = kMaxThreads * kElements;  // elements a block has at a time
  if (p.leaf_rows == 1 && p.classes > kBlock) {
    p.blocks_per_row =
        std::min(limits.max_cluster, PowerOfTwoAtLeast((p.classes + kBlock - 1) / kBlock));
  }
  p.slice = static_cast<int>(RoundUp((p.classes + p.blocks_per_row - 1) / p.blocks_per_row, V));
  p.chunks = static_cast<int>((p.slice + kBlock - 1) / kBlock);
  constexpr std::int64_t kUsualThreads = 256;
  const std::int64_t most = static_cast<std::int64_t>(p.leaf_rows) * p.threads_per_row;
  Shape shape = {};
  shape.threads = static_cast<int>(
      std::max<std::int64_t>(RoundUp(std::min(most, kUsualThreads), kWarp), p.threads_per_row));
  shape.blocks = p.leaves * p.blocks_per_row;
  shape.cluster = p.blocks_per_row;
  shape.shared_bytes = sizeof(rows::State);
  if (p.chunks > 1) return Start(rows::Kernel<T, V, rows::Scope::kChunks>, shape, stream, p);
  if (p.blocks_per_row > 1) {
    return Start(rows::Kernel<T, V, rows::Scope::kCluster>, shape, stream, p);
  }
  return p.threads_per_row > kWarp
             ? Start(rows::Kernel<T, V, rows::Scope::kBlock>, shape, stream, p)
             : Start(rows::Kernel<T, V, rows::Scope::kWarp>, shape, stream, p);
}

template <DType P, DType L>
cudaError_t RunVectors(const DeviceLimits& limits, const Params& p, cudaStream_t stream) {
  return Run<Types<P, L, P, float>, PerVector(P)>(limits, p, stream);
}

}  // namespace

cudaError_t LaunchRows(const KernelKey& key, const DeviceLimits& limits, Params p,
                       cudaStream_t stream) {
  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
  if (key.prediction == DType::kF64) {
    return Run<Types<DType::kF64, kAnyDType, kAnyDType, double>, 1>(limits, p, stream);
  }
  const bool vectors = key.class_last && !key.class_ids &&
                       key.classes % PerVector(key.prediction) == 0 &&
                       (!key.has_gradient || key.gradient == key.prediction);
  const auto is = [&](DType prediction, DType label) {
    return vectors && key.prediction == prediction && key.label == label;
  };
  if (is(kF32, kF32)) return RunVectors<kF32, kF32>(limits, p, stream);
  if (is(kF32, DType::kU8)) return RunVectors<kF32, DType::kU8>(limits, p, stream);
  if (is(kF16, kF16)) return RunVectors<kF16, kF16>(limits, p, stream);
  if (is(kBF16, kBF16)) return RunVectors<kBF16, kBF16>(limits, p, stream);
  return Run<Types<kAnyDType, kAnyDType, kAnyDType, float>, 1>(limits, p, stream);
}

}  // namespace softloss::cuda
