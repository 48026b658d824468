// The backend "cuda": gathers a batch into pinned memory, copies it over, scores it in one launch,
// copies the results back and hands them out.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/backends.h"
#include "kernels/cuda/buffers.h"
#include "kernels/cuda/launch.h"
#include "kernels/fragment_cursor.h"
#include "kernels/row_semantics.h"

namespace softloss {
namespace {

using cuda::Counters;
using cuda::DeviceSegment;
using cuda::LeafRecord;
using cuda::ToStatus;

// Hands out aligned ranges of a buffer that does not exist yet.
class Layout {
 public:
  std::size_t Add(std::size_t bytes) {
    const std::size_t at = size_;
    const std::size_t padded = bytes + static_cast<std::size_t>(cuda::kSlack);
    constexpr auto kStep = static_cast<std::size_t>(cuda::kAlignment);
    size_ += (padded + kStep - 1) / kStep * kStep;
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

// Where a segment's parts lie in the input and the output buffers.
struct Placement {
  Segment* segment = nullptr;
  std::size_t prediction = 0, label = 0, mask = 0, row_weight = 0;
  std::size_t class_weight = 0, pos_weight = 0, class_mask = 0;
  std::size_t gradient = 0, row_loss = 0, leaves = 0;
};

// The values of both are equal; those past the last are not served.
static_assert(static_cast<int>(Loss::kSoftmaxCrossEntropy) ==
              static_cast<int>(cuda::KernelLoss::kSoftmaxCrossEntropy));
static_assert(static_cast<int>(Loss::kSymmetricCrossEntropy) ==
              static_cast<int>(cuda::KernelLoss::kSymmetricCrossEntropy));
constexpr auto kLastServed = Loss::kSymmetricCrossEntropy;

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

cuda::DeviceParameters ToDevice(const LossParameters& p, PredictionKind kind) {
  return {p.temperature, p.z_loss,  p.alpha, p.beta,
          p.gamma,       p.epsilon, p.q,     kind == PredictionKind::kProbabilities};
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
                          cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking)}) {
      if (e != cudaSuccess) return Unavailable(e);
    }
    return std::unique_ptr<Backend>(std::move(backend));
  }

  ~CudaBackend() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
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
    if (!sticky_.ok()) return sticky_;
    absl::Status status = ScoreBatch(key, batch, executor);
    if (absl::IsInternal(status)) sticky_ = status;
    return status;
  }

 private:
  explicit CudaBackend(int device) : device_(device) {}

  static absl::Status Unavailable(cudaError_t error) {
    return absl::UnavailableError(
        absl::StrCat("cuda: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
  }

  absl::Status ScoreBatch(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor);
  void Place(absl::Span<Segment> batch);
  absl::Status ReserveBuffers();
  void Gather(const ScoreKey& key, Executor& executor);
  absl::Status RunOnDevice(const cuda::KernelKey& key);
  void Scatter(const ScoreKey& key, Executor& executor);
  absl::Status CheckContents(const ScoreKey& key, const Placement& p, const Counters& c) const;

  const int device_;
  cuda::DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  absl::Status sticky_;
  cuda::PinnedBuffer host_input_, host_output_;
  cuda::DeviceBuffer device_input_, device_output_;

  // Of the batch in hand. The inputs begin with the DeviceSegments, the outputs with the Counters.
  std::vector<Placement> placements_;
  std::size_t input_size_ = 0;
  std::size_t output_size_ = 0;
  std::size_t counters_size_ = 0;
  std::int64_t leaves_ = 0;
};

void CudaBackend::Place(absl::Span<Segment> batch) {
  placements_.clear();
  leaves_ = 0;
  for (Segment& s : batch) {
    s.tally = Tally();
    s.status = absl::OkStatus();
    if (s.rows > 0) placements_.emplace_back().segment = &s;
  }
  Layout input;
  Layout output;
  input.Add(placements_.size() * sizeof(DeviceSegment));
  counters_size_ = placements_.size() * sizeof(Counters);
  output.Add(counters_size_);
  const LossSpec* last = nullptr;
  for (std::size_t i = 0; i < placements_.size(); ++i) {
    Placement& p = placements_[i];
    const Segment& s = *p.segment;
    if (s.spec == last) {  // segments of a job share their parameters
      p.class_weight = placements_[i - 1].class_weight;
      p.pos_weight = placements_[i - 1].pos_weight;
      p.class_mask = placements_[i - 1].class_mask;
    } else {
      p.class_weight = input.Add(s.spec->class_weight.size() * sizeof(float));
      p.pos_weight = input.Add(s.spec->pos_weight.size() * sizeof(float));
      p.class_mask = input.Add(s.spec->class_mask.size());
      last = s.spec;
    }
    p.prediction = input.Add(TotalSize(s.prediction));
    p.label = input.Add(TotalSize(s.label));
    p.mask = input.Add(TotalSize(s.mask));
    p.row_weight = input.Add(TotalSize(s.row_weight));
    p.leaves = output.Add(s.leaves.size() * sizeof(LeafRecord));
    p.gradient = output.Add(TotalSize(s.gradient));
    p.row_loss = output.Add(TotalSize(s.row_loss));
    leaves_ += static_cast<std::int64_t>(s.leaves.size());
  }
  input_size_ = input.size();
  output_size_ = output.size();
}

absl::Status CudaBackend::ReserveBuffers() {
  for (absl::Status status :
       {host_input_.Reserve(input_size_), host_output_.Reserve(output_size_),
        device_input_.Reserve(input_size_), device_output_.Reserve(output_size_)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void CudaBackend::Gather(const ScoreKey& key, Executor& executor) {
  std::byte* const host = host_input_.data();
  const std::byte* const device = device_input_.data();
  std::byte* const out = device_output_.data();
  std::int64_t leaf = 0;
  for (std::size_t i = 0; i < placements_.size(); ++i) {
    const Placement& p = placements_[i];
    const Segment& s = *p.segment;
    const LossSpec& spec = *s.spec;
    const auto input = [&](bool there, std::size_t at) { return there ? device + at : nullptr; };
    DeviceSegment d = {};
    d.rows = s.rows;
    d.first_leaf = leaf;
    d.prediction = device + p.prediction;
    d.label = device + p.label;
    d.mask = reinterpret_cast<const std::uint8_t*>(input(!s.mask.empty(), p.mask));
    d.row_weight = reinterpret_cast<const float*>(input(!s.row_weight.empty(), p.row_weight));
    d.class_weight =
        reinterpret_cast<const float*>(input(!spec.class_weight.empty(), p.class_weight));
    d.pos_weight = reinterpret_cast<const float*>(input(!spec.pos_weight.empty(), p.pos_weight));
    d.class_mask =
        reinterpret_cast<const std::uint8_t*>(input(!spec.class_mask.empty(), p.class_mask));
    d.pos_weight_count = static_cast<std::int32_t>(spec.pos_weight.size());
    d.gradient = key.gradient.has_value() ? out + p.gradient : nullptr;
    d.row_loss = s.row_loss.empty() ? nullptr : out + p.row_loss;
    d.leaves = reinterpret_cast<LeafRecord*>(out + p.leaves);
    d.counters = reinterpret_cast<Counters*>(out) + i;
    d.label_smoothing = spec.label_smoothing;
    d.has_ignore_value = spec.ignore_value.has_value();
    d.ignore_value = spec.ignore_value.value_or(0);
    d.has_ignore_index = spec.ignore_index.has_value();
    d.ignore_index = spec.ignore_index.value_or(0);
    d.renormalize = spec.label_check == LabelCheck::kRenormalize;
    d.parameters = ToDevice(ParametersOf(spec), spec.prediction_kind);
    std::memcpy(host + i * sizeof(DeviceSegment), &d, sizeof(d));
    leaf += static_cast<std::int64_t>(s.leaves.size());
  }
  executor.ParallelFor(static_cast<std::int64_t>(placements_.size()), [&](std::int64_t i) {
    const Placement& p = placements_[static_cast<std::size_t>(i)];
    const Segment& s = *p.segment;
    const bool shared =
        i > 0 && placements_[static_cast<std::size_t>(i) - 1].segment->spec == s.spec;
    const auto copy = [&](const auto& from, std::size_t to) {
      if (!shared && !from.empty()) {
        std::memcpy(host + to, from.data(), from.size() * sizeof(from[0]));
      }
    };
    copy(s.spec->class_weight, p.class_weight);
    copy(s.spec->pos_weight, p.pos_weight);
    copy(s.spec->class_mask, p.class_mask);
    const auto gather = [&](Fragments from, std::size_t to) {
      FragmentCursor(from).Copy(TotalSize(from), host + to);
    };
    gather(s.prediction, p.prediction);
    gather(s.label, p.label);
    gather(s.mask, p.mask);
    gather(s.row_weight, p.row_weight);
  });
}

absl::Status CudaBackend::RunOnDevice(const cuda::KernelKey& key) {
  const auto run = [&]() -> std::pair<cudaError_t, const char*> {
    cudaError_t error = cudaMemcpyAsync(device_input_.data(), host_input_.data(), input_size_,
                                        cudaMemcpyHostToDevice, stream_);
    if (error != cudaSuccess) return {error, "copying the batch to the device"};
    error = cudaMemsetAsync(device_output_.data(), 0, counters_size_, stream_);
    if (error != cudaSuccess) return {error, "clearing counters"};
    error = cuda::Launch(key, limits_, reinterpret_cast<const DeviceSegment*>(device_input_.data()),
                         static_cast<int>(placements_.size()), leaves_, stream_);
    if (error != cudaSuccess) return {error, "launching the kernel"};
    error = cudaMemcpyAsync(host_output_.data(), device_output_.data(), output_size_,
                            cudaMemcpyDeviceToHost, stream_);
    if (error != cudaSuccess) return {error, "copying the results back"};
    return {cudaStreamSynchronize(stream_), "scoring"};
  };
  const auto [error, what] = run();
  return ToStatus(error, what);
}

absl::Status CudaBackend::CheckContents(const ScoreKey& key, const Placement& p,
                                        const Counters& c) const {
  if (c.bad_row_weight == 0 && c.bad_label == 0) return absl::OkStatus();
  // They hold ~row, or 0 for none: the larger is the earlier row, and a row's weight is checked first.
  const auto row = static_cast<std::int64_t>(~std::max(c.bad_row_weight, c.bad_label));
  if (c.bad_row_weight >= c.bad_label) {
    float weight;
    std::memcpy(&weight, host_input_.data() + p.row_weight + row * sizeof(weight), sizeof(weight));
    return BadRowWeight(*p.segment, row, weight);
  }
  const std::byte* labels = host_input_.data() + p.label;
  std::int64_t id;
  if (key.label.dtype == DType::kI32) {
    std::int32_t narrow;
    std::memcpy(&narrow, labels + row * sizeof(narrow), sizeof(narrow));
    id = narrow;
  } else {
    std::memcpy(&id, labels + row * sizeof(id), sizeof(id));
  }
  return BadClassId(*p.segment, row, id, key.classes);
}

void CudaBackend::Scatter(const ScoreKey& key, Executor& executor) {
  const std::byte* const host = host_output_.data();
  executor.ParallelFor(static_cast<std::int64_t>(placements_.size()), [&](std::int64_t i) {
    const Placement& p = placements_[static_cast<std::size_t>(i)];
    Segment& s = *p.segment;
    Counters c;
    std::memcpy(&c, host + static_cast<std::size_t>(i) * sizeof(Counters), sizeof(c));
    s.status = CheckContents(key, p, c);
    if (!s.status.ok()) return;
    s.tally.nonfinite_predictions = static_cast<std::int64_t>(c.nonfinite_predictions);
    s.tally.nonfinite_labels = static_cast<std::int64_t>(c.nonfinite_labels);
    s.tally.nonfinite_losses = static_cast<std::int64_t>(c.nonfinite_losses);
    s.tally.unnormalized_labels = static_cast<std::int64_t>(c.unnormalized_labels);
    s.tally.out_of_range_labels = static_cast<std::int64_t>(c.out_of_range_labels);
    for (std::size_t leaf = 0; leaf < s.leaves.size(); ++leaf) {
      LeafRecord record;
      std::memcpy(&record, host + p.leaves + leaf * sizeof(record), sizeof(record));
      s.leaves[leaf].loss = record.loss;
      s.leaves[leaf].weight = record.weight;
      s.leaves[leaf].gradient_square = record.gradient_square;
      s.tally.valid += record.valid;
    }
    const auto scatter = [&](std::size_t from, MutableFragments to) {
      FragmentWriter(to).Write(host + from, TotalSize(to));
    };
    scatter(p.gradient, s.gradient);
    scatter(p.row_loss, s.row_loss);
  });
}

absl::Status CudaBackend::ScoreBatch(const ScoreKey& key, absl::Span<Segment> batch,
                                     Executor& executor) {
  if (absl::Status status = Supports(key); !status.ok()) return status;
  // Another thread may call next time, and the current device is a thread's own.
  if (cudaError_t error = cudaSetDevice(device_)) return ToStatus(error, "choosing the device");
  Place(batch);
  if (placements_.empty()) return absl::OkStatus();
  if (absl::Status status = ReserveBuffers(); !status.ok()) return status;
  Gather(key, executor);
  if (absl::Status status = RunOnDevice(ToKernelKey(key)); !status.ok()) return status;
  Scatter(key, executor);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device) {
  return CudaBackend::Make(device);
}

}  // namespace softloss
