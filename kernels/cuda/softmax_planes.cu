#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

template <int kRows>
bool ShapePlanes(std::int64_t classes, std::int64_t leaf_rows, int* tile_rows, int* groups,
                 int* elements) {
  constexpr std::int64_t kClasses = planes::kElements / kRows;
  if (leaf_rows < kRows) return false;
  const std::int64_t count = (classes + kClasses - 1) / kClasses;
  std::int64_t rows = leaf_rows;
  while (rows > kRows && count * (rows / kRows) > planes::kMaxThreads) rows /= 2;
  *tile_rows = static_cast<int>(rows);
  *groups = static_cast<int>(count);
  *elements = static_cast<int>((classes + count - 1) / count);
  return count * (rows / kRows) <= planes::kMaxThreads;
}

template <class T, int kRows>
cudaError_t Run(Params p, cudaStream_t stream) {
  if (!ShapePlanes<kRows>(p.classes, p.leaf_rows, &p.tile_rows, &p.groups, &p.elements)) {
    return cudaErrorInvalidValue;
  }
  Shape shape = {};
  shape.threads = static_cast<int>(RoundUp(p.groups * (p.tile_rows / kRows), kWarp));
  shape.blocks = p.leaves;
  shape.shared_bytes = planes::SharedBytes<typename T::Real>(p.groups, p.tile_rows);
  shape.cluster = 1;
  return Start(planes::Kernel<T, kRows>, shape, stream, p);
}

// Neighbouring rows a thread has: 8 bytes of the prediction's type, where it is known.
constexpr int kWide = 2;
constexpr int kNarrow = 4;

bool IsNarrow(const KernelKey& key) {
  return Uniform(key) && (key.prediction == DType::kF16 || key.prediction == DType::kBF16);
}

}  // namespace

bool FitsPlanes(const KernelKey& key) {
  int unused[3];
  if (key.class_last) return false;
  return IsNarrow(key)
             ? ShapePlanes<kNarrow>(key.classes, key.leaf_rows, &unused[0], &unused[1], &unused[2])
             : ShapePlanes<kWide>(key.classes, key.leaf_rows, &unused[0], &unused[1], &unused[2]);
}

cudaError_t LaunchPlanes(const KernelKey& key, Params p, cudaStream_t stream) {
  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
  if (key.prediction == DType::kF64) {
    return Run<Types<DType::kF64, kAnyDType, kAnyDType, double>, kWide>(p, stream);
  }
  if (Uniform(key)) {
    switch (key.prediction) {
      case kF32: return Run<Types<kF32, kF32, kF32, float>, kWide>(p, stream);
      case kF16: return Run<Types<kF16, kF16, kF16, float>, kNarrow>(p, stream);
      case kBF16: return Run<Types<kBF16, kBF16, kBF16, float>, kNarrow>(p, stream);
      default: break;
    }
  }
  return Run<Types<kAnyDType, kAnyDType, kAnyDType, float>, kWide>(p, stream);
}

}  // namespace softloss::cuda
