// One ScoreStream on a completion queue: moves bytes between gRPC, a Session and the Dispatcher.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <grpcpp/support/async_stream.h>

#include "absl/container/inlined_vector.h"
#include "server/byte_buffer.h"
#include "server/call.h"
#include "server/session.h"

namespace softloss {

// Its queue's thread runs the handlers; OnScored, OnTick and OnDrain come from any thread. One read
// and one write are outstanding at most. It lives while an operation or a task of it does.
class StreamCall final : public ScoredSink,
                         public LiveCall,
                         public std::enable_shared_from_this<StreamCall> {
 public:
  // Waits for the next stream on `env`'s queue, and again after each.
  static void Accept(const CallEnv* env);

  explicit StreamCall(const CallEnv* env) : env_(env) {}
  ~StreamCall() override;

  void OnScored(ChunkTask& task) override;
  void OnTick(TimePoint now) override;
  void OnDrain() override;

 private:
  void OnAccepted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnDone(bool ok);

  using Tasks = absl::InlinedVector<std::unique_ptr<ChunkTask>, 1>;

  // Takes in the message, or the messages of the batch; their tasks are appended. With mutex_ held,
  // as for all below.
  absl::Status TakeMessage(ReceivedBytes* received, Fragments message, Tasks* tasks,
                           std::vector<Reply>* outbox);
  absl::Status TakeBatch(ReceivedBytes* received, Tasks* tasks, std::vector<Reply>* outbox);
  // Sends what is in `outbox`, reads on if the session allows, and finishes when all is done.
  void Advance(std::vector<Reply>* outbox);
  void Write();
  void Close(const absl::Status& status);

  const CallEnv* const env_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_{&context_};
  grpc::ByteBuffer incoming_;  // the read in progress

  Completion<StreamCall> accepted_{&StreamCall::OnAccepted};
  Completion<StreamCall> read_{&StreamCall::OnRead};
  Completion<StreamCall> written_{&StreamCall::OnWritten};
  Completion<StreamCall> finished_{&StreamCall::OnFinished};
  Completion<StreamCall> done_{&StreamCall::OnDone};

  std::mutex mutex_;
  std::optional<Session> session_;
  std::deque<Reply> replies_;
  std::int64_t queued_bytes_ = 0;  // of the replies' tensors, those being written included
  std::int64_t writing_bytes_ = 0;
  std::vector<Charge> writing_charges_;
  bool batches_ = false;  // the client has sent a batch
  int corked_ = 0;        // batches being scored, whose replies are to go together
  bool reading_ = false;
  bool writing_ = false;
  bool half_closed_ = false;  // no more reads: the client is done, or gone
  bool draining_ = false;
  bool finishing_ = false;
  std::optional<grpc::Status> closing_;  // ends the stream once the replies are written
};

}  // namespace softloss
