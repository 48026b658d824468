#include "kernels/cuda/runs.cuh"
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

template <class T>
cudaError_t Run(const KernelKey& key, Params p, cudaStream_t stream) {
  // Several blocks' stages fit on a multiprocessor together.
  constexpr int kMaxBytes = 64 << 10;
  constexpr int kMaxStages = 3;
  constexpr int kLeavesPerBlock = 8;
  const std::int64_t elements = p.leaf_rows * static_cast<std::int64_t>(p.classes);
  const auto prediction = static_cast<int>(RunBytes(elements * p.prediction_size));
  const auto label = key.class_ids ? 0 : static_cast<int>(RunBytes(elements * p.label_size));
  runs::Layout layout = {};
  layout.label = prediction;
  layout.stage = prediction + label;
  if (key.has_gradient && p.gradient_size != p.prediction_size) {
    layout.gradient = layout.stage;
    layout.stage += static_cast<int>(RunBytes(elements * p.gradient_size));
  }
  layout.stages = std::clamp(kMaxBytes / layout.stage, 1, kMaxStages);
  p.leaves_per_block = layout.stages > 1 ? kLeavesPerBlock : 1;
  Shape shape = {};
  shape.threads = runs::kThreads;
  shape.blocks = (p.leaves + p.leaves_per_block - 1) / p.leaves_per_block;
  shape.shared_bytes = static_cast<int>(sizeof(runs::State)) + layout.stages * layout.stage;
  shape.cluster = 1;
  return Start(runs::Kernel<T>, shape, stream, p, layout);
}

}  // namespace

bool FitsRuns(const KernelKey& key) { return key.class_last && key.classes <= runs::kMaxClasses; }

cudaError_t LaunchRuns(const KernelKey& key, Params p, cudaStream_t stream) {
  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
  if (key.prediction == DType::kF64) {
    return Run<Types<DType::kF64, kAnyDType, kAnyDType, double>>(key, p, stream);
  }
  if (Uniform(key)) {
    switch (key.prediction) {
      case kF32: return Run<Types<kF32, kF32, kF32, float>>(key, p, stream);
      case kF16: return Run<Types<kF16, kF16, kF16, float>>(key, p, stream);
      case kBF16: return Run<Types<kBF16, kBF16, kBF16, float>>(key, p, stream);
      default: break;
    }
  }
  return Run<Types<kAnyDType, kAnyDType, kAnyDType, float>>(key, p, stream);
}

}  // namespace softloss::cuda
