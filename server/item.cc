#include "server/item.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/spec.h"
#include "server/metrics.h"

namespace softloss {
namespace {

// The reply's head and tags beside its tensors, at most.
constexpr std::int64_t kReplyOverhead = 1024;

std::size_t Size(const wire::FragmentVector& fragments) { return TotalSize(Fragments(fragments)); }

TaskTimes& operator+=(TaskTimes& a, const TaskTimes& b) {
  a.decode_ns += b.decode_ns;
  a.queue_ns += b.queue_ns;
  a.host_to_device_ns += b.host_to_device_ns;
  a.compute_ns += b.compute_ns;
  a.device_to_host_ns += b.device_to_host_ns;
  a.encode_ns += b.encode_ns;
  return a;
}

Outcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return Outcome::kOk;
    case absl::StatusCode::kCancelled: return Outcome::kCancelled;
    case absl::StatusCode::kDeadlineExceeded: return Outcome::kExpired;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable: return Outcome::kShed;
    case absl::StatusCode::kInternal: return Outcome::kFailed;
    default: return Outcome::kInvalid;
  }
}

InvalidReason ReasonOf(const absl::Status& status, const ItemState& item) {
  if (status.code() == absl::StatusCode::kUnimplemented) return InvalidReason::kUnimplemented;
  if (item.rows_scored > 0) return InvalidReason::kContents;
  const std::string field = FieldOf(status);
  return absl::StartsWith(field, "spec") || absl::StartsWith(field, "item.spec")
             ? InvalidReason::kSpec
             : InvalidReason::kShape;
}

// A tensor is in shared memory or in the message, not both; and with one in memory there is one chunk.
absl::Status CheckPlaces(const ItemState& item, const wire::Bulk& bulk, std::int64_t rows) {
  if (!item.memory.any()) return absl::OkStatus();
  if (rows != item.plan.geometry.rows()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.rows: an item with tensors in shared memory comes in one chunk of ",
                     item.plan.geometry.rows(), " rows; was ", rows));
  }
  const struct {
    const char* field;
    const RegionRange& memory;
    std::size_t size;
  } tensors[] = {{"prediction", item.memory.prediction, Size(bulk[wire::kPrediction])},
                 {"label", item.memory.label, Size(bulk[wire::kLabel])}};
  for (const auto& t : tensors) {
    if (!t.memory || t.size == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(t.field, ": must be absent when item.", t.field,
                                                   "_memory is given; was ", t.size, " bytes"));
  }
  return absl::OkStatus();
}

// What an item in shared memory takes beside its tensors, which grows with it: sums of leaves, pieces
// of tensors whose class axis is not last, and where each ends.
std::int64_t BookkeepingBytes(const ItemState& item) {
  if (!item.memory.any()) return 0;
  constexpr std::int64_t kPieceBytes = sizeof(Fragment) + sizeof(std::int64_t);
  constexpr std::int64_t kTensors = 3;
  const Geometry& g = item.plan.geometry;
  const std::int64_t pieces = g.class_last() ? 1 : g.outer * g.classes;
  return CeilDiv(g.rows(), item.plan.leaf_rows) * std::int64_t{sizeof(LeafSum)} +
         kTensors * pieces * kPieceBytes;
}

ChunkSizes SizesOf(const ItemMemory& memory, const wire::Bulk& bulk) {
  return {memory.prediction ? memory.prediction.size : Size(bulk[wire::kPrediction]),
          memory.label ? memory.label.size : Size(bulk[wire::kLabel]), Size(bulk[wire::kMask]),
          Size(bulk[wire::kRowWeight]), Size(bulk[wire::kLabelIds])};
}

}  // namespace

absl::Status OutOfMemory(std::int64_t bytes) {
  return absl::UnavailableError(absl::StrCat("no memory for a reply of ", bytes, " bytes"));
}

absl::StatusOr<Charge> ChargeItem(const ServingContext& context,
                                  const std::shared_ptr<Tenant>& tenant, std::int64_t bytes) {
  absl::StatusOr<Charge> charge = context.budget->Acquire(tenant, bytes + kReplyOverhead);
  if (!charge.ok()) {
    context.metrics->Shed(absl::IsResourceExhausted(charge.status()) ? ShedReason::kQuota
                                                                     : ShedReason::kBytes);
  }
  return charge;
}

absl::StatusOr<ChunkBytes> MeasureChunk(const ItemState& item, const wire::Bulk& bulk,
                                        std::int64_t rows, std::int64_t max_tensor_bytes) {
  const ItemPlan& plan = item.plan;
  const ItemMemory& memory = item.memory;
  if (absl::Status s = CheckPlaces(item, bulk, rows); !s.ok()) return s;
  if (absl::Status s = CheckChunk(plan, item.rows_received, rows, SizesOf(memory, bulk)); !s.ok()) {
    return s;
  }
  // The bytes are here, so rows × row bytes cannot overflow. A regional item's losses come at its end.
  const std::int64_t all = plan.geometry.rows();
  const bool ends = item.rows_received + rows == all;
  const std::int64_t gradient = memory.gradient ? 0 : rows * plan.gradient_row_bytes;
  const ChunkBytes bytes = {
      rows * plan.request_row_bytes() -
          static_cast<std::int64_t>(memory.prediction.size + memory.label.size),
      gradient + (!plan.regional() ? plan.row_loss_bytes(rows)
                  : ends           ? plan.row_loss_bytes(all)
                                   : 0)};
  if (std::max(bytes.request, bytes.reply) > max_tensor_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk.rows: the tensors of a chunk and of its reply must not exceed ", max_tensor_bytes,
        " bytes each; ", rows, " rows are ", bytes.request, " and ", bytes.reply));
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<ItemState>> AdmitItem(const ServingContext& context,
                                                     const v1::Item& header,
                                                     std::shared_ptr<const LossSpec> spec,
                                                     std::uint64_t id, TimePoint now) {
  absl::StatusOr<ItemShape> shape = ItemFromProto(header);
  if (!shape.ok()) return shape.status();
  absl::StatusOr<ItemPlan> plan = MakePlan(*shape, *spec);
  if (!plan.ok()) return plan.status();
  if (absl::Status s = context.backend->Supports(plan->key); !s.ok()) return s;
  if (!header.request_key().empty() && header.request_key().size() != 16) {
    return absl::InvalidArgumentError(
        absl::StrCat("item.request_key: must have 16 bytes; has ", header.request_key().size()));
  }

  auto item = std::make_shared<ItemState>();
  if (!header.required_numerics_id().empty()) {
    const std::string here = context.backend->numerics_id();
    item->numerics_changed = header.required_numerics_id() != here;
    if (item->numerics_changed && !header.allow_numerics_change()) {
      return absl::FailedPreconditionError(
          absl::StrCat("item.required_numerics_id: this server computes as \"", here,
                       "\"; required was \"", header.required_numerics_id(), "\""));
    }
  }
  if (absl::Status s = ResolveMemory(context.regions, header, *plan, &item->memory); !s.ok()) {
    return s;
  }
  item->id = id;
  item->plan = *std::move(plan);
  item->spec = std::move(spec);
  item->arrived = now;
  item->last_chunk = now;
  // Longer than a century would overflow the clock, and is as good as no limit.
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 61;
  if (header.timeout_ns() > 0 && header.timeout_ns() < kLongest) {
    item->deadline = now + std::chrono::nanoseconds(header.timeout_ns());
  }
  return item;
}

absl::StatusOr<std::unique_ptr<ChunkTask>> MakeChunkTask(
    const ServingContext& context, const std::shared_ptr<Tenant>& tenant,
    const std::shared_ptr<ItemState>& item, const wire::Bulk& bulk, std::int64_t rows,
    std::int64_t max_tensor_bytes, std::int64_t wire_bytes, std::shared_ptr<const void> received,
    TimePoint now) {
  const ItemPlan& plan = item->plan;
  const ItemMemory& memory = item->memory;
  absl::StatusOr<ChunkBytes> bytes = MeasureChunk(*item, bulk, rows, max_tensor_bytes);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<Charge> charge =
      ChargeItem(context, tenant, wire_bytes + bytes->reply + BookkeepingBytes(*item));
  if (!charge.ok()) return charge.status();
  const std::int64_t gradient_bytes = memory.gradient ? 0 : rows * plan.gradient_row_bytes;

  auto task = std::make_unique<ChunkTask>();
  task->key = plan.key;
  task->bytes = rows * (plan.request_row_bytes() + plan.reply_row_bytes());
  task->tenant = tenant.get();
  task->arrived = now;
  task->deadline = item->deadline;
  task->item = item;
  task->row_begin = item->rows_received;
  task->wire_bytes = wire_bytes;
  task->received = std::move(received);
  task->charge = *std::move(charge);
  task->leaves.resize(CeilDiv(rows, plan.leaf_rows));

  Segment& segment = task->segment;
  segment.spec = item->spec.get();
  segment.rows = rows;
  segment.first_row = item->rows_received;
  segment.prediction = bulk[wire::kPrediction];
  if (memory.prediction) {
    CutMemory(memory.prediction, plan.geometry, SizeOf(plan.key.prediction),
              &task->prediction_fragments);
    segment.prediction = task->prediction_fragments;
  }
  segment.label = bulk[wire::kLabel];
  if (memory.label) {
    if (plan.key.label.kind == LabelKind::kDense) {
      CutMemory(memory.label, plan.geometry, SizeOf(plan.key.label.dtype), &task->label_fragments);
    } else if (memory.label.size > 0) {
      task->label_fragments.push_back({memory.label.data, memory.label.size});
    }
    segment.label = task->label_fragments;
  }
  segment.label_ids = bulk[wire::kLabelIds];
  segment.mask = bulk[wire::kMask];
  segment.row_weight = bulk[wire::kRowWeight];
  segment.leaves = absl::MakeSpan(task->leaves);
  if (memory.gradient) {
    CutMemory(memory.gradient, plan.geometry, SizeOf(*plan.key.gradient),
              &task->gradient_fragments);
  } else if (gradient_bytes > 0) {
    task->gradient = context.slabs->Allocate(gradient_bytes);
    if (!task->gradient) return OutOfMemory(gradient_bytes);
    task->gradient_fragments.push_back({task->gradient.data(), task->gradient.size()});
  }
  segment.gradient = task->gradient_fragments;
  if (const std::int64_t size = plan.row_loss_bytes(rows); size > 0) {
    task->row_loss = context.slabs->Allocate(size);
    if (!task->row_loss) return OutOfMemory(size);
    task->row_loss_fragment = {task->row_loss.data(), task->row_loss.size()};
    segment.row_loss = absl::MakeConstSpan(&task->row_loss_fragment, 1);
  }

  if (memory.any()) {
    context.metrics->SharedMemoryItem(static_cast<std::int64_t>(
        memory.prediction.size + memory.label.size + memory.gradient.size));
  }
  item->rows_received += rows;
  item->last_chunk = now;
  item->tasks.push_back(task.get());
  return task;
}

absl::Status AddScored(ItemState& item, ChunkTask& task) {
  item.tasks.erase(std::find(item.tasks.begin(), item.tasks.end(), &task));
  item.rows_scored += task.segment.rows;
  item.times += task.times;
  item.memory = ItemMemory();  // such an item has no other task
  if (!task.status.ok()) return task.status;
  if (!task.segment.status.ok()) return task.segment.status;
  item.tally += task.segment.tally;
  // Chunks may be scored in any order; each has its place among the leaves.
  const std::size_t first = task.row_begin / item.plan.leaf_rows;
  if (first == 0 && item.leaves.empty()) {
    item.leaves = std::move(task.leaves);
  } else {
    item.leaves.resize(std::max(item.leaves.size(), first + task.leaves.size()));
    std::copy(task.leaves.begin(), task.leaves.end(), item.leaves.begin() + first);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ItemResult> FinishItem(const ServingContext& context, const ItemState& item) {
  absl::StatusOr<ItemTotals> totals = Finish(*item.spec, item.plan, item.leaves, item.tally);
  if (!totals.ok()) return totals.status();
  v1::ItemResult result;
  result.set_loss(totals->loss);
  result.set_loss_sum(totals->loss_sum);
  result.set_denominator(totals->denominator);
  result.set_gradient_scale(totals->gradient_scale);
  result.set_gradient_l2_norm(totals->gradient_l2_norm);
  result.set_valid_count(totals->tally.valid);
  v1::Conditions& conditions = *result.mutable_conditions();
  conditions.set_nonfinite_predictions(totals->tally.nonfinite_predictions);
  conditions.set_nonfinite_labels(totals->tally.nonfinite_labels);
  conditions.set_nonfinite_losses(totals->tally.nonfinite_losses);
  conditions.set_unnormalized_labels(totals->tally.unnormalized_labels);
  conditions.set_out_of_range_labels(totals->tally.out_of_range_labels);
  conditions.set_empty(totals->empty);
  v1::StageTimes& times = *result.mutable_times();
  times.set_decode_ns(item.times.decode_ns);
  times.set_queue_ns(item.times.queue_ns);
  times.set_host_to_device_ns(item.times.host_to_device_ns);
  times.set_compute_ns(item.times.compute_ns);
  times.set_device_to_host_ns(item.times.device_to_host_ns);
  times.set_encode_ns(item.times.encode_ns);
  result.set_numerics_id(context.backend->numerics_id());
  result.set_numerics_changed(item.numerics_changed);
  return result;
}

void ObserveItem(const ServingContext& context, const ItemState& item, const absl::Status& status,
                 const v1::ItemResult* result) {
  ItemObservation observation;
  observation.loss = item.plan.key.loss;
  observation.outcome = OutcomeOf(status);
  observation.latency_s =
      std::chrono::duration<double>(context.clock->Now() - item.arrived).count();
  observation.rows = item.rows_scored;
  observation.times = item.times;
  if (result != nullptr) {
    ItemTotals totals;
    totals.loss = result->loss();
    totals.loss_sum = result->loss_sum();
    totals.denominator = result->denominator();
    totals.gradient_scale = result->gradient_scale();
    totals.gradient_l2_norm = result->gradient_l2_norm();
    totals.empty = result->conditions().empty();
    totals.tally = item.tally;
    observation.totals = totals;
  }
  if (observation.outcome == Outcome::kInvalid) {
    context.metrics->InvalidInput(ReasonOf(status, item));
  }
  context.metrics->ItemFinished(observation);
}

bool IsRetryable(absl::StatusCode code) {
  return code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kResourceExhausted;
}

v1::ItemError ToItemError(const absl::Status& status) {
  v1::ItemError error;
  error.set_code(static_cast<int>(status.code()));
  error.set_message(std::string(status.message()));
  error.set_field(FieldOf(status));
  error.set_retryable(IsRetryable(status.code()));
  return error;
}

}  // namespace softloss
