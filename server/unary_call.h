// One Score call: an item in one message, its errors the call's status.
#pragma once

#include <memory>
#include <mutex>

#include <grpcpp/support/async_unary_call.h>

#include "server/byte_buffer.h"
#include "server/call.h"

namespace softloss {

class UnaryCall final : public ScoredSink, public std::enable_shared_from_this<UnaryCall> {
 public:
  // Waits for the next call on `env`'s queue, and again after each.
  static void Accept(const CallEnv* env);

  explicit UnaryCall(const CallEnv* env) : env_(env) {}
  ~UnaryCall() override;

  void OnScored(ChunkTask& task) override;

 private:
  void OnAccepted(bool ok);
  void OnFinished(bool ok);
  void OnDone(bool ok);

  absl::StatusOr<std::unique_ptr<ChunkTask>> MakeTask(
      const std::shared_ptr<Received<v1::ScoreRequest>>& received);
  void Fail(const absl::Status& status);

  const CallEnv* const env_;
  grpc::ServerContext context_;
  grpc::ByteBuffer incoming_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_{&context_};

  Completion<UnaryCall> accepted_{&UnaryCall::OnAccepted};
  Completion<UnaryCall> finished_{&UnaryCall::OnFinished};
  Completion<UnaryCall> done_{&UnaryCall::OnDone};

  bool live_ = false;
  TimePoint start_;
  absl::Status status_;
  Charge charge_;
  std::mutex mutex_;  // item_->tasks: scored on one thread, cancelled on another
  std::shared_ptr<ItemState> item_;
};

}  // namespace softloss
