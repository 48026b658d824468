#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

template <class T, int V>
cudaError_t Run(const DeviceLimits& limits, Params p, cudaStream_t stream) {
  using rows::kElements, rows::MaxThreads, rows::Scope;
  const auto elements = [](Scope scope) { return MaxThreads(scope) * kElements; };
  // A row lies within a warp, a block or a cluster, else in larger blocks that may go over it in chunks.
  Scope scope = p.classes <= kWarp * kElements ? Scope::kWarp : Scope::kBlock;
  const auto blocks_of = [&](Scope s) {
    return p.leaf_rows > 1
               ? 1
               : std::min(limits.max_cluster, PowerOfTwoAtLeast(CeilDiv(p.classes, elements(s))));
  };
  if (p.classes > elements(scope)) {
    scope = static_cast<std::int64_t>(blocks_of(Scope::kCluster)) * elements(Scope::kCluster) >=
                    p.classes
                ? Scope::kCluster
                : Scope::kChunks;
  }
  p.threads_per_row = std::min(MaxThreads(scope), PowerOfTwoAtLeast(CeilDiv(p.classes, kElements)));
  p.blocks_per_row = scope == Scope::kCluster || scope == Scope::kChunks ? blocks_of(scope) : 1;
  p.slice = static_cast<int>(RoundUp(CeilDiv(p.classes, p.blocks_per_row), V));
  p.chunks = static_cast<int>(CeilDiv(p.slice, elements(scope)));
  const int most = p.leaf_rows * p.threads_per_row;
  Shape shape = {};
  shape.threads =
      std::max(static_cast<int>(RoundUp(std::min(most, 256), kWarp)), p.threads_per_row);
  shape.blocks = p.leaves * p.blocks_per_row;
  shape.cluster = p.blocks_per_row;
  shape.shared_bytes = sizeof(rows::State);
  switch (scope) {
    case Scope::kWarp: return Start(rows::Kernel<T, V, Scope::kWarp>, shape, stream, p);
    case Scope::kBlock: return Start(rows::Kernel<T, V, Scope::kBlock>, shape, stream, p);
    case Scope::kCluster: return Start(rows::Kernel<T, V, Scope::kCluster>, shape, stream, p);
    default: return Start(rows::Kernel<T, V, Scope::kChunks>, shape, stream, p);
  }
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
