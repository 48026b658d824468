// One connection to the server, and the thread that does all its work.
//
// The thread alone touches the state below the line; other threads only leave requests in the inbox.
// It sends requests in order, a chunk at a time, within the server's credit, and hands replies to the
// requests that wait for them. When the stream breaks, what is unanswered goes back to the queue and
// a new stream is made, on a new connection, after a pause.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "client/cpp/batch.h"
#include "client/cpp/pending.h"
#include "client/cpp/routing.h"
#include "client/cpp/stream.h"
#include "grpcpp/alarm.h"
#include "grpcpp/channel.h"
#include "grpcpp/completion_queue.h"

namespace softloss::internal {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const ClientOptions& options);

class Lane {
 public:
  // Starts to connect. The future has OK and the server's numerics_id once it is done.
  static std::shared_ptr<Lane> Start(std::string address, ClientOptions options,
                                     std::shared_ptr<MemoryShare> share);
  std::future<absl::StatusOr<std::string>> Connected() { return connected_.get_future(); }

  // From any thread. `pending->done` is called exactly once, by the lane's thread.
  void Submit(std::shared_ptr<Pending> pending);

  // From any thread, as the next.
  LaneLoad load() const {
    return {small_load_.load(std::memory_order_relaxed),
            bulk_load_.load(std::memory_order_relaxed)};
  }
  // Whether a server has ever greeted.
  bool greeted() const { return greeted_.load(std::memory_order_relaxed); }

  // Completes what is outstanding with CANCELLED and ends the thread; waits for that, unless called
  // by that thread, from a callback.
  void Stop();

 private:
  // Definitions that a stream keeps; a job may change a parameter every step.
  static constexpr std::size_t kMaxSpecs = 64;

  Lane(std::string address, ClientOptions options, std::shared_ptr<MemoryShare> share);

  void Wake();
  std::atomic<std::int64_t>& LoadOf(const Pending& p) {
    return IsSmall(p.load()) ? small_load_ : bulk_load_;
  }

  const std::string address_;
  const ClientOptions options_;
  const std::shared_ptr<MemoryShare> share_;
  grpc::CompletionQueue queue_;
  std::thread thread_;
  std::promise<absl::StatusOr<std::string>> connected_;
  std::atomic<std::int64_t> small_load_{0}, bulk_load_{0};
  std::atomic<bool> greeted_{false};

  std::mutex mutex_;
  std::vector<std::shared_ptr<Pending>> inbox_;  // under mutex_
  bool stop_ = false;                            // under mutex_
  std::atomic<bool> mail_{false};                // the inbox or stop_ has changed
  std::atomic<bool> sleeping_{false};  // the thread may not look at mail_ before an event comes
  std::atomic<bool> woken_{false};     // alarm_ is set, its tag not yet received
  grpc::Alarm alarm_;
  Tag on_alarm_ = [this](bool) { woken_ = false; };

  // ---- The thread's own ----

  void Run();
  Clock::time_point NextWake(Clock::time_point now) const;
  void TakeMail();
  void CancelAll();
  void ExpireRequests(Clock::time_point now);
  void ReleaseFinished(Clock::time_point now);
  bool Drained() const;

  bool WantsStream() const;
  void ManageStream(Clock::time_point now);
  void OpenStream(Clock::time_point now);
  void BreakStream(absl::Status why);
  void StreamOver(Clock::time_point now);
  void ReportConnected(absl::StatusOr<std::string> outcome);
  Clock::duration NextBackoff();

  void OnBytes(grpc::ByteBuffer& bytes);
  absl::Status OnMessage(Fragments bytes);
  void OnChunk(const wire::Parsed<v1::StreamResponse>& reply);
  void Grant(const v1::Credit& credit);
  void ReleaseHeld(std::uint64_t id);
  void SendOnTheWire(const std::shared_ptr<Pending>& p, Clock::time_point now);
  void Retry(const std::shared_ptr<Pending>& p, absl::Status why, Clock::time_point now);
  void Complete(const std::shared_ptr<Pending>& p, absl::StatusOr<ScoreResult> outcome);
  void Deliver(const std::shared_ptr<Pending>& p);

  void Pump();
  void SendCancel();
  void SendControl(const v1::StreamRequest& message);
  bool PrepareNext();
  bool MaySendNext() const;
  void SendNext();
  void DropNext();

  bool stopping_ = false;
  absl::BitGen random_;

  // A request that is not finished is in to_send_, in in_flight_ or in retries_; in the first two if
  // it is partly sent, and then it is at the front.
  std::deque<std::shared_ptr<Pending>> to_send_;
  absl::flat_hash_map<std::uint64_t, std::shared_ptr<Pending>> in_flight_;  // by id
  std::multimap<Clock::time_point, std::shared_ptr<Pending>> retries_;
  std::multimap<Clock::time_point, std::shared_ptr<Pending>> deadlines_;
  std::uint64_t next_id_ = 1;  // of an attempt; never used twice

  // Sent, with tensors in shared memory, and not answered: the server may write there.
  absl::flat_hash_map<std::uint64_t, std::shared_ptr<Pending>> held_;  // by id

  // Finished, but gRPC or the server still refers to the caller's tensors.
  struct Borrowed {
    std::shared_ptr<Pending> pending;
    Clock::time_point until;  // then the connection goes
  };
  std::vector<Borrowed> borrowed_;
  int release_spins_ = 0;

  std::unique_ptr<Stream> stream_;
  absl::Status broken_;          // why this side ended the stream
  bool reported_ = false;        // connected_ has its value
  Clock::time_point give_up_;    // on a stream that does not greet
  Clock::time_point reconnect_;  // not before
  Clock::duration backoff_;      // the next pause

  // Of the current stream.
  std::optional<v1::Hello> hello_;
  std::int64_t credit_bytes_ = 0;
  std::int64_t credit_items_ = 0;
  absl::flat_hash_map<std::string, std::uint32_t> specs_;  // those in spec_slots_, to their ids
  std::array<std::string, kMaxSpecs> spec_slots_;
  std::size_t defined_ = 0;
  std::deque<std::uint64_t> cancels_;
  bool batching_ = false;  // has told the server so
  Batch outgoing_;         // of the next write
  Message next_;           // waits for credit, or for the write before it
  std::shared_ptr<Pending> next_of_;
  bool next_is_first_ = false;
};

}  // namespace softloss::internal
