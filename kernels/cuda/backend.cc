// The backend "cuda": cuts a batch into loads, gathers each into pinned memory, copies it over, scores it in
// one launch, copies the results back and hands them out. Two loads are under way at a time: while one is
// copied or scored, the other is gathered or handed out.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/backends.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/load.h"
#include "kernels/cuda/slot.h"
#include "kernels/row_semantics.h"

namespace softloss {
namespace {

using cuda::Load;
using cuda::Slot;
using cuda::ToStatus;

// The values of both are equal; those past the last are not served.
static_assert(static_cast<int>(Loss::kSoftmaxCrossEntropy) ==
              static_cast<int>(cuda::KernelLoss::kSoftmaxCrossEntropy));
static_assert(static_cast<int>(Loss::kSymmetricCrossEntropy) ==
              static_cast<int>(cuda::KernelLoss::kSymmetricCrossEntropy));
constexpr auto kLastServed = Loss::kSymmetricCrossEntropy;

// Loads are a quarter of a batch, so that copies both ways and kernels overlap, but not so small that
// launching shows beside them, nor so large that memory does.
constexpr std::size_t kSmallestLoad = std::size_t{4} << 20;
constexpr std::size_t kLargestLoad = std::size_t{64} << 20;

cuda::KernelKey ToKernelKey(const ScoreKey& key) {
  cuda::KernelKey out;
  out.loss = static_cast<cuda::KernelLoss>(key.loss);
  out.general = key.general;
  out.prediction = key.prediction;
  out.label = key.label.dtype;
  out.has_gradient = key.gradient.has_value();
  out.gradient = key.gradient.value_or(DType::kF32);
  out.class_ids = key.label.kind == LabelKind::kClassId;
  out.row_sum =
      !out.class_ids && key.label.dtype == DType::kU8 && key.label.scale == LabelScale::kRowSum;
  out.class_last = key.class_last;
  out.classes = key.classes;
  out.leaf_rows = LeafRows(key.classes);
  return out;
}

class CudaBackend final : public Backend {
 public:
  static absl::StatusOr<std::unique_ptr<Backend>> Make(int device) {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
    if (error == cudaSuccess && device >= devices) error = cudaErrorInvalidDevice;
    if (error != cudaSuccess) return Unavailable(error);
    auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(device));
    for (cudaError_t e : {cudaSetDevice(device), cuda::QueryLimits(device, &backend->limits_),
                          backend->slots_[0].Open(), backend->slots_[1].Open()}) {
      if (e != cudaSuccess) return Unavailable(e);
    }
    return std::unique_ptr<Backend>(std::move(backend));
  }

  std::string_view name() const override { return "cuda"; }
  bool batched() const override { return true; }
  std::string numerics_id() const override {
    return NumericsId(name(), absl::StrCat("sm_", limits_.compute_capability));
  }

  absl::Status Supports(const ScoreKey& key) const override {
    constexpr std::int64_t kMaxClasses = std::int64_t{1} << 30;
    if (key.classes > kMaxClasses) {
      return absl::UnimplementedError(
          absl::StrCat("prediction.shape: the cuda backend takes at most ", kMaxClasses,
                       " classes; was ", key.classes));
    }
    return CheckServed(name(), key, key.loss <= kLastServed, /*serves_general=*/true);
  }

  absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) override {
    if (!broken_.ok()) return broken_;
    absl::Status status = ScoreBatch(key, batch, executor);
    if (absl::IsInternal(status)) broken_ = status;
    return status;
  }

 private:
  explicit CudaBackend(int device) : device_(device) {}

  static absl::Status Unavailable(cudaError_t error) {
    return absl::UnavailableError(
        absl::StrCat("cuda: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
  }

  absl::Status ScoreBatch(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor);
  absl::StatusOr<std::vector<Load>> CutToFit(const ScoreKey& key, absl::Span<Segment> batch);
  absl::Status Reserve(const std::vector<Load>& loads);
  absl::Status RunLoads(const ScoreKey& key, const std::vector<Load>& loads, Executor& executor);

  const int device_;
  cuda::DeviceLimits limits_;
  absl::Status broken_;
  std::array<Slot, 2> slots_;
  // What the largest load may have: less once memory was short.
  std::size_t largest_load_ = kLargestLoad;
};

absl::Status CudaBackend::Reserve(const std::vector<Load>& loads) {
  std::size_t input = 0, output = 0;
  for (const Load& load : loads) {
    input = std::max(input, load.input_size);
    output = std::max(output, load.output_size);
  }
  for (std::size_t i = 0; i < std::min(slots_.size(), loads.size()); ++i) {
    if (absl::Status status = slots_[i].Reserve(input, output); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Loads that there is memory for: smaller ones, down to a leaf, where there is not. RESOURCE_EXHAUSTED
// for less than that.
absl::StatusOr<std::vector<Load>> CudaBackend::CutToFit(const ScoreKey& key,
                                                        absl::Span<Segment> batch) {
  const std::size_t quarter = cuda::TensorBytes(batch) / 4;
  std::size_t bytes = std::min(std::max(quarter, kSmallestLoad), largest_load_);
  for (;;) {
    std::vector<Load> loads = cuda::CutIntoLoads(key, batch, bytes);
    const absl::Status status = Reserve(loads);
    if (status.ok()) return loads;
    const bool smallest =
        std::all_of(loads.begin(), loads.end(), [](const Load& load) { return load.leaves == 1; });
    for (Slot& slot : slots_) slot.Release();
    if (!absl::IsResourceExhausted(status) || smallest) return status;
    bytes /= 2;
    largest_load_ = std::max(bytes, kSmallestLoad);
  }
}

absl::Status CudaBackend::ScoreBatch(const ScoreKey& key, absl::Span<Segment> batch,
                                     Executor& executor) {
  if (absl::Status status = Supports(key); !status.ok()) return status;
  // Another thread may call next time, and the current device is a thread's own.
  if (cudaError_t error = cudaSetDevice(device_)) return ToStatus(error, "choosing the device");
  for (Segment& s : batch) {
    s.tally = Tally();
    s.status = absl::OkStatus();
  }
  absl::StatusOr<std::vector<Load>> loads = CutToFit(key, batch);
  if (!loads.ok()) return loads.status();
  absl::Status status = RunLoads(key, *loads, executor);
  if (!status.ok()) {
    for (Slot& slot : slots_) slot.Abandon();
  }
  return status;
}

absl::Status CudaBackend::RunLoads(const ScoreKey& key, const std::vector<Load>& loads,
                                   Executor& executor) {
  const cuda::KernelKey kernel = ToKernelKey(key);
  // Each load is finished before the next one but one takes its slot, so that results come in order.
  for (std::size_t i = 0; i < loads.size() + slots_.size(); ++i) {
    Slot& slot = slots_[i % slots_.size()];
    if (absl::Status status = slot.Finish(key, executor); !status.ok()) return status;
    if (i >= loads.size()) continue;
    if (absl::Status status = slot.Start(key, kernel, limits_, loads[i], executor); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device) {
  return CudaBackend::Make(device);
}

}  // namespace softloss
