#include "server/unary_call.h"

#include <utility>

#include "proto/wire/spec.h"
#include "server/dispatcher.h"
#include "server/metrics.h"

namespace softloss {
namespace {

// The moment on the server's clock at which the client stops waiting.
TimePoint ClientDeadline(const grpc::ServerContext& context, TimePoint now) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) return TimePoint::max();
  return now + std::chrono::duration_cast<Duration>(left);
}

}  // namespace

void UnaryCall::Accept(const CallEnv* env) {
  auto call = std::make_shared<UnaryCall>(env);
  call->context_.AsyncNotifyWhenDone(call->done_.tag());
  env->scorer->RequestScore(&call->context_, &call->incoming_, &call->writer_, env->queue,
                            env->queue, call->accepted_.Arm(call));
}

UnaryCall::~UnaryCall() {
  if (live_) env_->calls->Remove(this);
}

void UnaryCall::OnAccepted(bool ok) {
  if (!ok) return;  // the server is shutting down
  Accept(env_);
  live_ = true;
  env_->calls->Add(this, {});
  done_.Arm(shared_from_this());
  start_ = env_->context->clock->Now();
  env_->context->metrics->RpcStarted(RpcMethod::kScore);

  ReceivedBytes bytes;
  absl::Status parsed = bytes.Take(&incoming_);
  env_->context->metrics->MessageReceived(RpcMethod::kScore);
  env_->context->metrics->ReceivedBytes(bytes.bytes);
  auto received = std::make_shared<Received<v1::ScoreRequest>>();
  if (parsed.ok()) parsed = received->Parse(&bytes, bytes.fragments);
  if (!parsed.ok()) {
    env_->context->metrics->InvalidInput(InvalidReason::kFraming);
    Fail(parsed);
    return;
  }
  env_->context->metrics->ItemStarted();
  absl::StatusOr<std::unique_ptr<ChunkTask>> task = MakeTask(received);
  if (!task.ok()) {
    ObserveItem(*env_->context, item_ != nullptr ? *item_ : ItemState(), task.status(), nullptr);
    Fail(task.status());
    return;
  }
  (*task)->times.decode_ns = Nanoseconds(env_->context->clock->Now() - start_);
  env_->dispatcher->Run(*std::move(task));
}

absl::StatusOr<std::unique_ptr<ChunkTask>> UnaryCall::MakeTask(
    const std::shared_ptr<Received<v1::ScoreRequest>>& received) {
  if (*env_->draining) {
    env_->context->metrics->Shed(ShedReason::kDraining);
    return absl::UnavailableError("the server is shutting down");
  }
  const v1::Item& header = received->parsed.message.item();
  if (!header.has_spec()) {
    return absl::InvalidArgumentError("item.spec: a unary call carries its spec inline; absent");
  }
  if (header.spec_id() != 0) {
    return absl::InvalidArgumentError(
        "item.spec_id: only streams have defined specs; a unary call carries its own");
  }
  absl::StatusOr<LossSpec> spec = SpecFromProto(header.spec());
  if (!spec.ok()) return spec.status();
  absl::StatusOr<std::shared_ptr<ItemState>> item = AdmitItem(
      *env_->context, header, std::make_shared<const LossSpec>(*std::move(spec)), 0, start_);
  if (!item.ok()) return item.status();
  item_ = *std::move(item);
  item_->deadline = std::min(item_->deadline, ClientDeadline(context_, start_));
  item_->last_received = true;
  absl::StatusOr<std::unique_ptr<ChunkTask>> task =
      MakeChunkTask(*env_->context, env_->context->budget->FindTenant(TenantName(context_)), item_,
                    received->parsed.bulk, item_->plan.geometry.rows(),
                    env_->context->max_chunk_bytes, received->bytes, received, start_);
  if (task.ok()) {
    (*task)->sink = shared_from_this();
    (*task)->flow = this;
  }
  return task;
}

void UnaryCall::OnScored(ChunkTask& task) {
  v1::ItemResult header;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    status_ = AddScored(*item_, task);
  }
  task.received.reset();
  if (status_.ok()) {
    absl::StatusOr<v1::ItemResult> result = FinishItem(*env_->context, *item_);
    status_ = result.status();
    if (result.ok()) header = *std::move(result);
  }
  ObserveItem(*env_->context, *item_, status_, status_.ok() ? &header : nullptr);
  if (!status_.ok()) {
    Fail(status_);
    return;
  }
  task.charge.ReduceTo(static_cast<std::int64_t>(task.gradient.size() + task.row_loss.size()));
  Reply reply = EncodeBulkReply(header, std::move(task.gradient), std::move(task.row_loss),
                                std::move(task.charge));
  charge_ = std::move(reply.charge);
  const grpc::ByteBuffer bytes = ToByteBuffer(absl::MakeSpan(&reply, 1));
  env_->context->metrics->MessageSent(RpcMethod::kScore);
  env_->context->metrics->SentBytes(static_cast<std::int64_t>(bytes.Length()));
  writer_.Finish(bytes, grpc::Status::OK, finished_.Arm(shared_from_this()));
}

void UnaryCall::Fail(const absl::Status& status) {
  status_ = status;
  writer_.FinishWithError(ToGrpcStatus(status), finished_.Arm(shared_from_this()));
}

void UnaryCall::OnDone(bool) {
  if (!context_.IsCancelled()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (item_ == nullptr) return;
  for (ChunkTask* task : item_->tasks) task->cancelled.store(true, std::memory_order_relaxed);
}

void UnaryCall::OnFinished(bool) {
  charge_ = Charge();
  env_->context->metrics->RpcHandled(
      RpcMethod::kScore, static_cast<int>(status_.code()),
      std::chrono::duration<double>(env_->context->clock->Now() - start_).count());
}

}  // namespace softloss
