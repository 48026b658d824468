#include "client/load/prepared_item.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/backends.h"
#include "kernels/engine.h"
#include "kernels/half.h"

namespace softloss::load {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Standard normal values by Box and Muller, from a fixed generator: the same load everywhere.
class Normal {
 public:
  explicit Normal(std::uint64_t seed) : random_(seed) {}
  double operator()() {
    const double u = 1 - Uniform();
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * Uniform());
  }
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 random_;
};

template <typename T>
void Append(T value, Bytes& out) {
  std::uint8_t bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

Bytes Encode(const std::vector<double>& values, DType dtype) {
  Bytes out;
  out.reserve(values.size() * SizeOf(dtype));
  for (const double v : values) {
    switch (dtype) {
      case DType::kF32: Append(static_cast<float>(v), out); break;
      case DType::kF16: Append(ToF16(v), out); break;
      case DType::kBF16: Append(ToBF16(v), out); break;
      case DType::kF64: Append(v, out); break;
      case DType::kU8: Append(static_cast<std::uint8_t>(std::lround(v * 255)), out); break;
      case DType::kI32: Append(static_cast<std::int32_t>(v), out); break;
      case DType::kI64: Append(static_cast<std::int64_t>(v), out); break;
    }
  }
  return out;
}

double Decode(const void* data, std::int64_t i, DType dtype) {
  const auto* const bytes = static_cast<const std::uint8_t*>(data) + i * SizeOf(dtype);
  const auto as = [bytes](auto value) {
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  };
  switch (dtype) {
    case DType::kF16: return F16ToFloat(as(std::uint16_t{}));
    case DType::kBF16: return BF16ToFloat(as(std::uint16_t{}));
    case DType::kF64: return as(double{});
    default: return as(float{});
  }
}

// Values to distributions over the classes, row by row.
void Softmax(const Geometry& g, std::vector<double>& values) {
  for (std::int64_t o = 0; o < g.outer; ++o) {
    for (std::int64_t i = 0; i < g.inner; ++i) {
      const auto at = [&](std::int64_t c) -> double& {
        return values[(o * g.classes + c) * g.inner + i];
      };
      double max = at(0), sum = 0;
      for (std::int64_t c = 0; c < g.classes; ++c) max = std::max(max, at(c));
      for (std::int64_t c = 0; c < g.classes; ++c) sum += at(c) = std::exp(at(c) - max);
      for (std::int64_t c = 0; c < g.classes; ++c) at(c) /= sum;
    }
  }
}

std::vector<double> DrawLabels(const ItemPlan& plan, Normal& normal) {
  const Geometry& g = plan.geometry;
  if (plan.key.label.kind == LabelKind::kClassId) {
    std::vector<double> ids(g.rows());
    for (double& id : ids) id = std::floor(normal.Uniform() * static_cast<double>(g.classes));
    return ids;
  }
  std::vector<double> labels(g.elements());
  if (IsElementwise(plan.key.loss) || plan.key.activation == Activation::kSigmoid) {
    for (double& t : labels) t = normal.Uniform();
    return labels;
  }
  for (double& t : labels) t = 2 * normal();
  // A distillation's labels are the teacher's logits.
  if (plan.key.loss != Loss::kDistillation) Softmax(g, labels);
  return labels;
}

float Step(DType dtype) {
  switch (dtype) {
    case DType::kF16: return 0x1p-10f;
    case DType::kBF16: return 0x1p-7f;
    default: return 1e-6f;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreparedItem>> PreparedItem::Create(const ItemKind& kind,
                                                                   std::uint64_t seed) {
  if (auto s = Validate(kind.spec); !s.ok()) return s;
  absl::StatusOr<ItemPlan> plan = MakePlan(kind.item, kind.spec);
  if (!plan.ok()) return plan.status();
  if (kind.item.has_mask || kind.item.has_row_weight) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind.name, ": masks and row weights are not drawn"));
  }
  auto out = std::unique_ptr<PreparedItem>(new PreparedItem());
  out->kind_ = kind;
  out->plan_ = *std::move(plan);
  Normal normal(seed);
  std::vector<double> values(out->plan_.geometry.elements());
  for (double& x : values) x = 2 * normal();
  if (kind.spec.prediction_kind == PredictionKind::kProbabilities) {
    if (IsElementwise(kind.spec.loss) || out->plan_.key.activation == Activation::kSigmoid) {
      for (double& x : values) x = 1 / (1 + std::exp(-x));
    } else {
      Softmax(out->plan_.geometry, values);
    }
  }
  out->prediction_ = Encode(values, kind.item.prediction);
  out->label_ = Encode(DrawLabels(out->plan_, normal), kind.item.label.dtype);

  ItemShape wide = kind.item;
  if (wide.gradient.has_value()) {
    wide.gradient = DType::kF32;
    out->gradient_.resize(values.size());
  }
  wide.want_row_loss = false;
  InlineExecutor here;
  const std::unique_ptr<Backend> reference = MakeReferenceBackend();
  absl::StatusOr<ItemTotals> totals =
      ScoreItem(*reference, here, kind.spec, wide,
                {.prediction = out->prediction_.data(), .label = out->label_.data()},
                {.gradient = wide.gradient.has_value() ? out->gradient_.data() : nullptr});
  if (!totals.ok()) return totals.status();
  out->expected_ = *totals;
  out->loss_scale_ = 1e-5 *
                     (std::fabs(totals->loss_sum) + static_cast<double>(totals->tally.valid)) *
                     std::fabs(totals->gradient_scale);
  const float temperature = kind.spec.temperature.value_or(1.0F);
  out->gradient_tolerance_ = 4e-6F * std::max(1.0F, temperature * temperature);
  return out;
}

std::size_t PreparedItem::LabelOffset() const { return (prediction_.size() + 63) / 64 * 64; }

absl::Status PreparedItem::Share(const Client& client) {
  absl::StatusOr<SharedMemory> memory = client.Allocate(LabelOffset() + label_.size());
  if (!memory.ok()) return memory.status();
  if (auto s = memory->status(); !s.ok()) return s;
  auto* const to = static_cast<std::uint8_t*>(memory->data());
  std::copy(prediction_.begin(), prediction_.end(), to);
  std::copy(label_.begin(), label_.end(), to + LabelOffset());
  shared_ = *std::move(memory);
  return absl::OkStatus();
}

ScoreRequest PreparedItem::Request() const {
  ScoreRequest request;
  request.spec = kind_.spec;
  request.item = kind_.item;
  request.prediction = prediction_.data();
  request.label = label_.data();
  if (shared_.size() > 0) {
    request.prediction = shared_.data();
    request.label = static_cast<const std::uint8_t*>(shared_.data()) + LabelOffset();
  }
  return request;
}

std::int64_t PreparedItem::request_bytes() const {
  return static_cast<std::int64_t>(prediction_.size() + label_.size());
}

std::int64_t PreparedItem::reply_bytes() const {
  return plan_.reply_row_bytes() * plan_.geometry.rows();
}

absl::Status PreparedItem::Check(const ScoreResult& result, bool whole) const {
  // Not ≤, so that NaN is wrong.
  if (!(std::fabs(result.loss - expected_.loss) <= loss_scale_)) {
    return absl::DataLossError(absl::StrCat(kind_.name, ": loss: must be ", expected_.loss,
                                            " within ", loss_scale_, "; was ", result.loss));
  }
  if (!whole || gradient_.empty()) return absl::OkStatus();
  const DType dtype = *kind_.item.gradient;
  const std::size_t bytes = gradient_.size() * SizeOf(dtype);
  if (result.gradient.size() != bytes) {
    return absl::DataLossError(absl::StrCat(kind_.name, ": gradient: must have ", bytes,
                                            " bytes; has ", result.gradient.size()));
  }
  for (std::size_t i = 0; i < gradient_.size(); ++i) {
    const double found = Decode(result.gradient.data(), static_cast<std::int64_t>(i), dtype);
    const double limit = gradient_tolerance_ + Step(dtype) * std::fabs(gradient_[i]);
    if (!(std::fabs(found - gradient_[i]) <= limit)) {
      return absl::DataLossError(absl::StrCat(kind_.name, ": gradient[", i, "]: must be ",
                                              gradient_[i], " within ", limit, "; was ", found));
    }
  }
  return absl::OkStatus();
}

}  // namespace softloss::load
