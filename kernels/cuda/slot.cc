#include "kernels/cuda/slot.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/row_semantics.h"

namespace softloss::cuda {
namespace {

DeviceParameters ToDevice(const LossParameters& p, PredictionKind kind) {
  return {p.temperature, p.z_loss,  p.alpha, p.beta,
          p.gamma,       p.epsilon, p.q,     kind == PredictionKind::kProbabilities};
}

// Lines of a segment's tensors: one for each class in tiles, else one.
struct Lines {
  explicit Lines(const ScoreKey& key)
      : prediction(key.class_last ? 1 : key.classes),
        label(key.label.kind == LabelKind::kDense ? prediction : 1),
        row_loss(IsElementwise(key.loss) ? prediction : 1) {}
  std::int64_t prediction, label, row_loss;
};

}  // namespace

Slot::~Slot() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status Slot::Reserve(std::size_t input_size, std::size_t output_size) {
  for (absl::Status status :
       {host_input_.Reserve(input_size), host_output_.Reserve(output_size),
        device_input_.Reserve(input_size), device_output_.Reserve(output_size)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void Slot::Release() {
  host_input_.Free();
  host_output_.Free();
  device_input_.Free();
  device_output_.Free();
}

void Slot::Abandon() {
  if (load_ != nullptr) cudaStreamSynchronize(stream_);
  load_ = nullptr;
}

// The pieces as the kernels see them.
void Slot::Describe(const ScoreKey& key) {
  const std::byte* const input = device_input_.data();
  std::byte* const output = device_output_.data();
  std::int64_t leaf = 0;
  for (std::size_t i = 0; i < load_->pieces.size(); ++i) {
    const Piece& p = load_->pieces[i];
    const Segment& s = *p.segment;
    const LossSpec& spec = *s.spec;
    const auto bytes = [&](bool there, std::size_t at) {
      return there ? reinterpret_cast<const std::uint8_t*>(input + at) : nullptr;
    };
    const auto floats = [&](bool there, std::size_t at) {
      return there ? reinterpret_cast<const float*>(input + at) : nullptr;
    };
    DeviceSegment d = {};
    d.rows = p.rows;
    d.first_leaf = leaf;
    d.prediction = input + p.prediction;
    d.label = input + p.label;
    d.mask = bytes(!s.mask.empty(), p.mask);
    d.row_weight = floats(!s.row_weight.empty(), p.row_weight);
    d.class_weight = floats(!spec.class_weight.empty(), p.class_weight);
    d.pos_weight = floats(!spec.pos_weight.empty(), p.pos_weight);
    d.class_mask = bytes(!spec.class_mask.empty(), p.class_mask);
    d.pos_weight_count = static_cast<std::int32_t>(spec.pos_weight.size());
    d.gradient = key.gradient.has_value() ? output + p.gradient : nullptr;
    d.row_loss = s.row_loss.empty() ? nullptr : output + p.row_loss;
    d.leaves = reinterpret_cast<LeafRecord*>(output + p.leaf_records);
    d.counters = reinterpret_cast<Counters*>(output) + i;
    d.label_smoothing = spec.label_smoothing;
    d.has_ignore_value = spec.ignore_value.has_value();
    d.ignore_value = spec.ignore_value.value_or(0);
    d.has_ignore_index = spec.ignore_index.has_value();
    d.ignore_index = spec.ignore_index.value_or(0);
    d.renormalize = spec.label_check == LabelCheck::kRenormalize;
    d.parameters = ToDevice(ParametersOf(spec), spec.prediction_kind);
    std::memcpy(host_input_.data() + i * sizeof(DeviceSegment), &d, sizeof(d));
    leaf += p.leaves;
  }
}

void Slot::Gather(const ScoreKey& key, Executor& executor) {
  std::byte* const host = host_input_.data();
  const Lines lines(key);
  executor.ParallelFor(static_cast<std::int64_t>(load_->pieces.size()), [&](std::int64_t i) {
    const Piece& p = load_->pieces[static_cast<std::size_t>(i)];
    const Segment& s = *p.segment;
    const auto copy = [&](const auto& from, std::size_t to) {
      if (!p.shares_spec && !from.empty()) {
        std::memcpy(host + to, from.data(), from.size() * sizeof(from[0]));
      }
    };
    copy(s.spec->class_weight, p.class_weight);
    copy(s.spec->pos_weight, p.pos_weight);
    copy(s.spec->class_mask, p.class_mask);
    GatherRows(p, s.prediction, lines.prediction, host + p.prediction);
    GatherRows(p, s.label, lines.label, host + p.label);
    GatherRows(p, s.mask, 1, host + p.mask);
    GatherRows(p, s.row_weight, 1, host + p.row_weight);
  });
}

absl::Status Slot::Start(const ScoreKey& key, const KernelKey& kernel, const DeviceLimits& limits,
                         const Load& load, Executor& executor) {
  load_ = &load;
  Describe(key);
  Gather(key, executor);
  const auto run = [&]() -> std::pair<cudaError_t, const char*> {
    cudaError_t error = cudaMemcpyAsync(device_input_.data(), host_input_.data(), load.input_size,
                                        cudaMemcpyHostToDevice, stream_);
    if (error != cudaSuccess) return {error, "copying a batch to the device"};
    error = cudaMemsetAsync(device_output_.data(), 0, load.counters_size, stream_);
    if (error != cudaSuccess) return {error, "clearing counters"};
    error = Launch(kernel, limits, reinterpret_cast<const DeviceSegment*>(device_input_.data()),
                   static_cast<int>(load.pieces.size()), load.leaves, stream_);
    if (error != cudaSuccess) return {error, "launching the kernel"};
    error = cudaMemcpyAsync(host_output_.data(), device_output_.data(), load.output_size,
                            cudaMemcpyDeviceToHost, stream_);
    return {error, "copying the results back"};
  };
  const auto [error, what] = run();
  return ToStatus(error, what);
}

absl::Status Slot::Finish(const ScoreKey& key, Executor& executor) {
  if (load_ == nullptr) return absl::OkStatus();
  if (cudaError_t error = cudaStreamSynchronize(stream_)) {
    load_ = nullptr;
    return ToStatus(error, "scoring");
  }
  Scatter(key, executor);
  load_ = nullptr;
  return absl::OkStatus();
}

absl::Status Slot::CheckContents(const ScoreKey& key, const Piece& p, const Counters& c) const {
  if (c.bad_row_weight == 0 && c.bad_label == 0) return absl::OkStatus();
  // They hold ~row, or 0 for none: the larger is the earlier row, and a row's weight is checked first.
  const auto row = static_cast<std::int64_t>(~std::max(c.bad_row_weight, c.bad_label));
  const auto at = static_cast<std::size_t>(row);
  const std::int64_t in_segment = p.first_row + row;
  if (c.bad_row_weight >= c.bad_label) {
    float weight;
    std::memcpy(&weight, host_input_.data() + p.row_weight + at * sizeof(weight), sizeof(weight));
    return BadRowWeight(*p.segment, in_segment, weight);
  }
  const std::byte* labels = host_input_.data() + p.label;
  std::int64_t id;
  if (key.label.dtype == DType::kI32) {
    std::int32_t narrow;
    std::memcpy(&narrow, labels + at * sizeof(narrow), sizeof(narrow));
    id = narrow;
  } else {
    std::memcpy(&id, labels + at * sizeof(id), sizeof(id));
  }
  return BadClassId(*p.segment, in_segment, id, key.classes);
}

void Slot::Scatter(const ScoreKey& key, Executor& executor) {
  const std::byte* const host = host_output_.data();
  // Pieces of one segment come in order, so that its first bad row is the one that is told.
  for (std::size_t i = 0; i < load_->pieces.size(); ++i) {
    const Piece& p = load_->pieces[i];
    Segment& s = *p.segment;
    Counters c;
    std::memcpy(&c, host + i * sizeof(Counters), sizeof(c));
    if (s.status.ok()) s.status = CheckContents(key, p, c);
    s.tally.nonfinite_predictions += static_cast<std::int64_t>(c.nonfinite_predictions);
    s.tally.nonfinite_labels += static_cast<std::int64_t>(c.nonfinite_labels);
    s.tally.nonfinite_losses += static_cast<std::int64_t>(c.nonfinite_losses);
    s.tally.unnormalized_labels += static_cast<std::int64_t>(c.unnormalized_labels);
    s.tally.out_of_range_labels += static_cast<std::int64_t>(c.out_of_range_labels);
    for (std::int64_t leaf = 0; leaf < p.leaves; ++leaf) {
      LeafRecord record;
      std::memcpy(&record, host + p.leaf_records + static_cast<std::size_t>(leaf) * sizeof(record),
                  sizeof(record));
      s.leaves[static_cast<std::size_t>(p.first_leaf + leaf)] = {record.loss, record.weight,
                                                                 record.gradient_square};
      s.tally.valid += record.valid;
    }
  }
  const Lines lines(key);
  executor.ParallelFor(static_cast<std::int64_t>(load_->pieces.size()), [&](std::int64_t i) {
    const Piece& p = load_->pieces[static_cast<std::size_t>(i)];
    if (!p.segment->status.ok()) return;
    ScatterRows(p, host + p.gradient, lines.prediction, p.segment->gradient);
    ScatterRows(p, host + p.row_loss, lines.row_loss, p.segment->row_loss);
  });
}

}  // namespace softloss::cuda
