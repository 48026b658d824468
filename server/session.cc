#include "server/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/spec.h"
#include "server/gathered_item.h"
#include "server/metrics.h"

namespace softloss {
namespace {

// Definitions that a stream keeps.
constexpr std::size_t kMaxSpecs = 4096;

}  // namespace

Session::Session(const ServingContext* context, std::shared_ptr<Tenant> tenant,
                 std::weak_ptr<ScoredSink> sink)
    : context_(context), tenant_(std::move(tenant)), sink_(std::move(sink)) {}

void Session::Hello(std::vector<Reply>* outbox, const std::string& shared_memory_socket) {
  v1::StreamResponse response;
  v1::Hello& hello = *response.mutable_hello();
  hello.set_credit_bytes(context_->stream_credit_bytes);
  hello.set_credit_items(context_->stream_credit_items);
  hello.set_max_message_bytes(context_->max_message_bytes);
  hello.set_max_chunk_bytes(context_->max_chunk_bytes);
  hello.set_numerics_id(context_->backend->numerics_id());
  hello.set_server_version(context_->version);
  hello.set_shared_memory_socket(shared_memory_socket);
  hello.set_max_batch_messages(kMaxBatchMessages);
  outbox->push_back(EncodeControlReply(response));
}

absl::StatusOr<std::unique_ptr<ChunkTask>> Session::OnMessage(
    const wire::Parsed<v1::StreamRequest>& message, std::int64_t wire_bytes,
    std::shared_ptr<const void> received, std::vector<Reply>* outbox) {
  const v1::StreamRequest& request = message.message;
  if (request.batch_size() > 0) {
    return absl::InvalidArgumentError(
        "malformed message: batch must be its message's first and only field, and holds no other "
        "batch");
  }
  if (request.has_chunk() + request.has_define() + request.has_cancel() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed message: exactly one of chunk, define and cancel must be set; ",
                     request.has_chunk() + request.has_define() + request.has_cancel(), " are"));
  }
  if (request.has_define()) {
    if (absl::Status s = OnDefine(request.define(), wire_bytes); !s.ok()) return s;
    return nullptr;
  }
  if (request.has_cancel()) {
    if (auto it = items_.find(request.cancel().id()); it != items_.end()) {
      const std::shared_ptr<ItemState> item = it->second;
      if (item->memory.any() && !item->tasks.empty()) {
        // The answer hands the memory back, so it waits for who may be writing there.
        for (ChunkTask* task : item->tasks) task->cancelled.store(true, std::memory_order_relaxed);
        return nullptr;
      }
      if (!item->answered) {
        Answer(*item, absl::CancelledError("cancelled by the client"), nullptr, outbox);
      }
      // A cancelled item gets no more chunks, so its id is free again.
      items_.erase(item->id);
    }
    return nullptr;
  }
  return OnChunk(request.chunk(), message.bulk, wire_bytes, std::move(received), outbox);
}

absl::Status Session::OnDefine(const v1::Define& define, std::int64_t wire_bytes) {
  if (define.spec_id() == 0) {
    return absl::InvalidArgumentError("define.spec_id: must be at least 1; was 0");
  }
  if (specs_.size() == kMaxSpecs && !specs_.contains(define.spec_id())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("define.spec_id: a stream may use at most ", kMaxSpecs,
                     " ids; define one anew instead of id ", define.spec_id()));
  }
  absl::StatusOr<Charge> charge = context_->budget->Acquire(tenant_, wire_bytes);
  if (!charge.ok()) return charge.status();
  absl::StatusOr<LossSpec> spec = SpecFromProto(define.spec());
  Spec& slot = specs_[define.spec_id()];
  slot.charge = *std::move(charge);
  if (spec.ok()) {
    slot.spec = std::make_shared<const LossSpec>(*std::move(spec));
  } else {
    slot.spec = spec.status();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ChunkTask>> Session::OnChunk(const v1::Chunk& chunk,
                                                            const wire::Bulk& bulk,
                                                            std::int64_t wire_bytes,
                                                            std::shared_ptr<const void> received,
                                                            std::vector<Reply>* outbox) {
  const TimePoint now = context_->clock->Now();
  std::shared_ptr<ItemState> item;
  absl::Status error;
  if (auto it = items_.find(chunk.id()); it != items_.end()) {
    if (chunk.has_item()) {
      return absl::AlreadyExistsError(absl::StrCat("chunk.id: ", chunk.id(), " is in flight"));
    }
    item = it->second;
  } else {
    absl::StatusOr<std::shared_ptr<ItemState>> admitted = Admit(chunk, now);
    if (admitted.ok()) {
      item = *std::move(admitted);
    } else {
      // Refused, but remembered while chunks of it may come.
      const auto refused = static_cast<std::int64_t>(items_.size()) - outstanding_items_;
      if (refused > context_->stream_credit_items) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "chunk.last: ", refused, " items of this stream were refused and neither ended nor ",
            "cancelled; at most ", context_->stream_credit_items, " may be"));
      }
      error = admitted.status();
      item = std::make_shared<ItemState>();
      item->id = chunk.id();
      item->arrived = now;
    }
    items_.emplace(chunk.id(), item);
    ++outstanding_items_;
    context_->metrics->ItemStarted();
  }
  item->last_chunk = now;
  item->last_received |= chunk.last();
  if (item->answered) {  // what is left of a failed item
    ReturnCredit(wire_bytes, 0, outbox);
    Retire(item);
    return nullptr;
  }

  if (error.ok()) error = CheckOrder(chunk, *item);
  std::unique_ptr<ChunkTask> task;
  const bool whole = chunk.last() && chunk.row_begin() == 0;
  if (error.ok() && item->plan.regional() && !whole) {
    error = GatherChunk(*context_, tenant_, item, bulk, chunk.rows(), context_->max_chunk_bytes,
                        wire_bytes, std::move(received), now);
    if (error.ok()) {
      // Its memory is reserved, and the item cannot go on before the rest of it is here.
      ReturnCredit(wire_bytes, 0, outbox);
      if (!chunk.last()) return nullptr;
      wire_bytes = 0;
      absl::StatusOr<std::unique_ptr<ChunkTask>> joined = JoinChunks(*context_, tenant_, item, now);
      error = joined.status();
      if (joined.ok()) task = *std::move(joined);
    }
  } else if (error.ok()) {
    absl::StatusOr<std::unique_ptr<ChunkTask>> made =
        MakeChunkTask(*context_, tenant_, item, bulk, chunk.rows(), context_->max_chunk_bytes,
                      wire_bytes, std::move(received), now);
    error = made.status();
    if (made.ok()) task = *std::move(made);
  }
  if (!error.ok()) {
    Answer(*item, error, nullptr, outbox);
    if (wire_bytes > 0) ReturnCredit(wire_bytes, 0, outbox);
    Retire(item);
    return nullptr;
  }
  task->sink = sink_.lock();
  task->flow = this;
  outstanding_bytes_ += wire_bytes;
  ++tasks_;
  return task;
}

absl::StatusOr<std::shared_ptr<ItemState>> Session::Admit(const v1::Chunk& chunk, TimePoint now) {
  if (!chunk.has_item()) {
    return absl::InvalidArgumentError(absl::StrCat("chunk.item: the first chunk of item ",
                                                   chunk.id(), " must describe it; was absent"));
  }
  if (draining_) {
    context_->metrics->Shed(ShedReason::kDraining);
    return absl::UnavailableError("the server is shutting down");
  }
  const v1::Item& header = chunk.item();
  if (header.has_spec()) {
    return absl::InvalidArgumentError(
        "item.spec: specs are inline in unary calls only; define it on the stream");
  }
  auto it = specs_.find(header.spec_id());
  if (it == specs_.end()) {
    return absl::FailedPreconditionError(
        absl::StrCat("item.spec_id: ", header.spec_id(), " was never defined on this stream"));
  }
  if (!it->second.spec.ok()) return it->second.spec.status();
  return AdmitItem(*context_, header, *it->second.spec, chunk.id(), now);
}

absl::Status Session::CheckOrder(const v1::Chunk& chunk, const ItemState& item) const {
  const std::int64_t rows = item.plan.geometry.rows();
  if (chunk.row_begin() != item.rows_received) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.row_begin: chunks must come in order, so ", item.rows_received,
                     " is next; was ", chunk.row_begin()));
  }
  if (chunk.rows() < 0 || chunk.rows() > rows - chunk.row_begin()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk.rows: must be in [0, ", rows - chunk.row_begin(), "]; was ", chunk.rows()));
  }
  const bool ends = chunk.row_begin() + chunk.rows() == rows;
  if (chunk.rows() == 0 && !(ends && chunk.last())) {
    return absl::InvalidArgumentError("chunk.rows: must not be 0 before the item's end");
  }
  if (ends != chunk.last()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk.last: must be set on the chunk that ends the item's ", rows, " rows; was ",
        chunk.last() ? "true" : "false", " at row ", chunk.row_begin() + chunk.rows()));
  }
  return absl::OkStatus();
}

void Session::OnScored(ChunkTask& task, std::vector<Reply>* outbox) {
  --tasks_;
  outstanding_bytes_ -= task.wire_bytes;
  const std::shared_ptr<ItemState> item = task.item;
  absl::Status status = AddScored(*item, task);
  task.received.reset();
  if (item->answered) {
    ReturnCredit(task.wire_bytes, 0, outbox);
    Retire(item);
    return;
  }
  if (status.ok()) AnswerParts(task, outbox);
  if (!status.ok() || item->complete()) {
    Answer(*item, status, &task, outbox);
  } else if (task.gradient.size() + task.row_loss.size() > 0) {
    v1::ChunkResult header;
    header.set_id(item->id);
    header.set_row_begin(task.row_begin);
    header.set_rows(task.segment.rows);
    header.mutable_returned()->set_bytes(task.wire_bytes);
    task.charge.ReduceTo(task.gradient.size() + task.row_loss.size());
    outbox->push_back(EncodeBulkReply(header, std::move(task.gradient), std::move(task.row_loss),
                                      std::move(task.charge)));
  } else {
    ReturnCredit(task.wire_bytes, 0, outbox);
  }
  Retire(item);
}

void Session::AnswerParts(ChunkTask& task, std::vector<Reply>* outbox) {
  if (task.parts.empty()) return;
  ChunkTask::Part& last = task.parts.back();
  for (ChunkTask::Part& part : task.parts) {
    if (&part == &last || part.gradient.size() == 0) continue;
    v1::ChunkResult header;
    header.set_id(task.item->id);
    header.set_row_begin(part.row_begin);
    header.set_rows(part.rows);
    outbox->push_back(
        EncodeBulkReply(header, std::move(part.gradient), Slab(), std::move(part.charge)));
  }
  task.row_begin = last.row_begin;
  task.segment.rows = last.rows;
  task.gradient = std::move(last.gradient);
  task.charge = std::move(last.charge);
}

void Session::Answer(ItemState& item, const absl::Status& status, ChunkTask* task,
                     std::vector<Reply>* outbox) {
  item.answered = true;
  --outstanding_items_;
  if (item.tasks.empty()) item.memory = ItemMemory();
  item.gathered.reset();
  // What is still being scored is no use any more.
  for (ChunkTask* other : item.tasks) other->cancelled.store(true, std::memory_order_relaxed);

  v1::ChunkResult header;
  header.set_id(item.id);
  header.mutable_returned()->set_items(1);
  if (task != nullptr) {
    header.set_row_begin(task->row_begin);
    header.set_rows(task->segment.rows);
    header.mutable_returned()->set_bytes(task->wire_bytes);
  }
  absl::Status outcome = status;
  if (outcome.ok()) {
    absl::StatusOr<v1::ItemResult> result = FinishItem(*context_, item);
    outcome = result.status();
    if (result.ok()) {
      ObserveItem(*context_, item, outcome, &*result);
      *header.mutable_result() = *std::move(result);
      task->charge.ReduceTo(task->gradient.size() + task->row_loss.size());
      outbox->push_back(EncodeBulkReply(header, std::move(task->gradient),
                                        std::move(task->row_loss), std::move(task->charge)));
      return;
    }
  }
  ObserveItem(*context_, item, outcome, nullptr);
  *header.mutable_error() = ToItemError(outcome);
  outbox->push_back(EncodeBulkReply(header, Slab(), Slab(), Charge()));
}

void Session::ReturnCredit(std::int64_t bytes, std::int64_t items, std::vector<Reply>* outbox) {
  v1::StreamResponse response;
  response.mutable_credit()->set_bytes(bytes);
  response.mutable_credit()->set_items(items);
  outbox->push_back(EncodeControlReply(response));
}

void Session::Retire(const std::shared_ptr<ItemState>& item) {
  if (!item->answered || !item->last_received) return;
  // Cancelled ids may be in use again, by another item.
  if (auto it = items_.find(item->id); it != items_.end() && it->second == item) {
    items_.erase(it);
  }
}

void Session::OnHalfClose(std::vector<Reply>* outbox) {
  std::vector<std::shared_ptr<ItemState>> open;
  for (const auto& [id, item] : items_) {
    if (!item->last_received) open.push_back(item);
  }
  for (const std::shared_ptr<ItemState>& item : open) {
    item->last_received = true;  // nothing more can come
    if (!item->answered) {
      Answer(*item,
             absl::InvalidArgumentError(
                 absl::StrCat("chunk.last: the stream was half-closed after ", item->rows_received,
                              " of ", item->plan.geometry.rows(), " rows of item ", item->id)),
             nullptr, outbox);
    }
    Retire(item);
  }
}

void Session::CancelAll() {
  for (const auto& [id, item] : items_) {
    if (!item->answered) {
      item->answered = true;
      --outstanding_items_;
      ObserveItem(*context_, *item, absl::CancelledError("the stream is gone"), nullptr);
    }
    for (ChunkTask* task : item->tasks) task->cancelled.store(true, std::memory_order_relaxed);
  }
  items_.clear();
}

void Session::OnTick(TimePoint now, std::vector<Reply>* outbox) {
  std::vector<std::shared_ptr<ItemState>> stalled;
  for (const auto& [id, item] : items_) {
    if (!item->last_received && now - item->last_chunk >= context_->item_stall_timeout) {
      stalled.push_back(item);
    }
  }
  for (const std::shared_ptr<ItemState>& item : stalled) {
    if (!item->answered) {
      Answer(*item,
             absl::DeadlineExceededError(absl::StrCat(
                 "item ", item->id, ": no chunk came for ",
                 std::chrono::duration_cast<std::chrono::seconds>(now - item->last_chunk).count(),
                 " s, after ", item->rows_received, " of ", item->plan.geometry.rows(), " rows")),
             nullptr, outbox);
    }
    items_.erase(item->id);
  }
}

bool Session::MayRead() const {
  return outstanding_bytes_ < context_->stream_credit_bytes &&
         outstanding_items_ <= context_->stream_credit_items;
}

}  // namespace softloss
