#include "server/stream_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatcher.h"
#include "server/metrics.h"

namespace softloss {
namespace {

// Replies go together up to this size, as requests do (client/cpp/batch.h).
constexpr std::size_t kBatchBytes = 128 << 10;

}  // namespace

void StreamCall::Accept(const CallEnv* env) {
  auto call = std::make_shared<StreamCall>(env);
  call->context_.AsyncNotifyWhenDone(call->done_.tag());
  env->scorer->RequestScoreStream(&call->context_, &call->stream_, env->queue, env->queue,
                                  call->accepted_.Arm(call));
}

StreamCall::~StreamCall() {
  if (session_.has_value()) {
    env_->context->metrics->StreamClosed();
    env_->calls->Remove(this);
  }
}

void StreamCall::OnAccepted(bool ok) {
  if (!ok) return;  // the server is shutting down
  Accept(env_);
  env_->context->metrics->RpcStarted(RpcMethod::kScoreStream);
  env_->context->metrics->StreamOpened();

  std::lock_guard<std::mutex> lock(mutex_);
  done_.Arm(shared_from_this());
  session_.emplace(env_->context, env_->context->budget->FindTenant(TenantName(context_)),
                   weak_from_this());
  // Registered first: either the drain finds this call, or this call sees the drain.
  env_->calls->Add(this, weak_from_this());
  if (*env_->draining) {
    session_->Drain();
    draining_ = true;
  }
  std::vector<Reply> outbox;
  session_->Hello(&outbox, SharedMemorySocketFor(context_, *env_->context));
  Advance(&outbox);
}

void StreamCall::OnRead(bool ok) {
  std::vector<Reply> outbox;
  Tasks tasks;
  if (!ok) {
    std::lock_guard<std::mutex> lock(mutex_);
    reading_ = false;
    half_closed_ = true;
    session_->OnHalfClose(&outbox);
    Advance(&outbox);
    return;
  }
  ReceivedBytes received;
  absl::Status status = received.Take(&incoming_);
  env_->context->metrics->MessageReceived(RpcMethod::kScoreStream);
  env_->context->metrics->ReceivedBytes(received.bytes);
  const bool batch = wire::IsBatch(received.fragments);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reading_ = false;
    if (closing_.has_value()) return;
    if (status.ok()) {
      status = batch ? TakeBatch(&received, &tasks, &outbox)
                     : TakeMessage(&received, received.fragments, &tasks, &outbox);
    }
    if (!status.ok()) Close(status);
    if (batch) ++corked_;
    Advance(&outbox);
  }
  for (std::unique_ptr<ChunkTask>& task : tasks) env_->dispatcher->Run(std::move(task));
  if (batch) {
    std::lock_guard<std::mutex> lock(mutex_);
    --corked_;
    Advance(&outbox);
  }
}

absl::Status StreamCall::TakeBatch(ReceivedBytes* received, Tasks* tasks,
                                   std::vector<Reply>* outbox) {
  batches_ = true;
  int messages = 0;
  return wire::ForEachInBatch(received->fragments, [&](const wire::FragmentVector& message) {
    if (++messages > kMaxBatchMessages) {
      return absl::InvalidArgumentError(
          absl::StrCat("batch: must have at most ", kMaxBatchMessages, " messages"));
    }
    return TakeMessage(received, message, tasks, outbox);
  });
}

absl::Status StreamCall::TakeMessage(ReceivedBytes* received, Fragments fragments, Tasks* tasks,
                                     std::vector<Reply>* outbox) {
  const TimePoint start = env_->context->clock->Now();
  auto message = std::make_shared<Received<v1::StreamRequest>>();
  if (absl::Status s = message->Parse(received, fragments); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<ChunkTask>> task =
      session_->OnMessage(message->parsed, message->bytes, message, outbox);
  if (!task.ok()) return task.status();
  if (*task != nullptr) {
    (*task)->times.decode_ns = Nanoseconds(env_->context->clock->Now() - start);
    tasks->push_back(*std::move(task));
  }
  return absl::OkStatus();
}

void StreamCall::OnScored(ChunkTask& task) {
  std::vector<Reply> outbox;
  std::lock_guard<std::mutex> lock(mutex_);
  session_->OnScored(task, &outbox);
  Advance(&outbox);
}

void StreamCall::OnTick(TimePoint now) {
  std::vector<Reply> outbox;
  std::lock_guard<std::mutex> lock(mutex_);
  session_->OnTick(now, &outbox);
  Advance(&outbox);
}

void StreamCall::OnDrain() {
  std::vector<Reply> outbox;
  std::lock_guard<std::mutex> lock(mutex_);
  session_->Drain();
  draining_ = true;
  Advance(&outbox);
}

void StreamCall::OnWritten(bool ok) {
  std::vector<Reply> outbox;
  std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  queued_bytes_ -= std::exchange(writing_bytes_, 0);
  writing_charges_.clear();
  if (!ok) {  // the client is gone
    half_closed_ = true;
    session_->CancelAll();
    replies_.clear();
    queued_bytes_ = 0;
  }
  Advance(&outbox);
}

void StreamCall::OnDone(bool) {
  if (!context_.IsCancelled()) return;
  std::vector<Reply> outbox;
  std::lock_guard<std::mutex> lock(mutex_);
  session_->CancelAll();
  half_closed_ = true;
  Advance(&outbox);
}

void StreamCall::OnFinished(bool) {
  const grpc::StatusCode code =
      closing_.has_value() ? closing_->error_code() : grpc::StatusCode::OK;
  env_->context->metrics->RpcHandled(RpcMethod::kScoreStream, code, std::nullopt);
}

void StreamCall::Close(const absl::Status& status) {
  env_->context->metrics->InvalidInput(InvalidReason::kFraming);
  closing_ = ToGrpcStatus(status);
  session_->CancelAll();
}

void StreamCall::Advance(std::vector<Reply>* outbox) {
  for (Reply& reply : *outbox) {
    queued_bytes_ += reply.bulk_bytes();
    replies_.push_back(std::move(reply));
  }
  outbox->clear();
  if (finishing_) return;

  if (!writing_ && !replies_.empty() && corked_ == 0) Write();
  // A client that does not read its replies is not read from.
  if (!reading_ && !half_closed_ && !closing_.has_value() && session_->MayRead() &&
      queued_bytes_ < env_->context->stream_credit_bytes) {
    reading_ = true;
    stream_.Read(&incoming_, read_.Arm(shared_from_this()));
  }
  if (writing_ || !replies_.empty()) return;
  if (!closing_.has_value() && session_->idle()) {
    if (half_closed_) {
      closing_ = grpc::Status::OK;
    } else if (draining_) {
      closing_ = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
    }
  }
  if (closing_.has_value()) {
    finishing_ = true;
    stream_.Finish(*closing_, finished_.Arm(shared_from_this()));
  }
}

void StreamCall::Write() {
  absl::InlinedVector<Reply, 8> replies;
  std::size_t size = 0;
  do {
    size += replies_.front().size();
    writing_bytes_ += replies_.front().bulk_bytes();
    writing_charges_.push_back(std::move(replies_.front().charge));
    replies.push_back(std::move(replies_.front()));
    replies_.pop_front();
  } while (batches_ && !replies_.empty() && size + replies_.front().size() <= kBatchBytes);
  writing_ = true;
  grpc::WriteOptions options;
  // More follows at once, so small replies may share a packet.
  if (!replies_.empty()) options.set_buffer_hint();
  const grpc::ByteBuffer bytes = ToByteBuffer(absl::MakeSpan(replies));
  env_->context->metrics->MessageSent(RpcMethod::kScoreStream);
  env_->context->metrics->SentBytes(static_cast<std::int64_t>(bytes.Length()));
  stream_.Write(bytes, options, written_.Arm(shared_from_this()));
}

}  // namespace softloss
