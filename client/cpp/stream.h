// One ScoreStream call, on a connection of its own.
#pragma once

#include <functional>
#include <memory>

#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"

namespace softloss::internal {

// What a completion queue's tags point to.
using Tag = std::function<void(bool ok)>;

// Belongs to the thread that runs the queue, like all its callbacks. A read is always posted, or
// both ends could wait for each other on full windows.
class Stream {
 public:
  struct Events {
    std::function<void(grpc::ByteBuffer&)> message;
    std::function<void()> written;  // the next Write may start
  };

  // Starts the call.
  Stream(std::shared_ptr<grpc::Channel> channel, grpc::CompletionQueue* queue, Events events);

  // One at a time: only when idle().
  void Write(const grpc::ByteBuffer& message);
  bool idle() const { return started_ && !writing_ && !broken_; }

  // Ends the call soon. Idempotent.
  void Cancel() { context_.TryCancel(); }

  // True when the call is over and the queue holds no tag of it: it may be destroyed then, though
  // not from inside one of the events.
  bool over() const { return finished_ && outstanding_ == 0; }
  const grpc::Status& status() const { return status_; }

 private:
  void Read();
  void Finish();

  const std::shared_ptr<grpc::Channel> channel_;
  const Events events_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;

  Tag on_start_, on_read_, on_write_, on_finish_;
  int outstanding_ = 0;
  bool started_ = false;
  bool writing_ = false;
  bool broken_ = false;
  bool finished_ = false;
  grpc::ByteBuffer incoming_;
  grpc::Status status_;
};

}  // namespace softloss::internal
