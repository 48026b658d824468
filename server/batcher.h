// The thread between a batch queue and a device. All policy is in BatchQueue.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "server/batch_queue.h"
#include "server/clock.h"
#include "server/score_task.h"

namespace softloss {

// Waits for a notification or until `until`; may return early for no reason.
using WaitFunction =
    std::function<void(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                       std::optional<TimePoint> until)>;

// Waits on the steady clock.
void RealWait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
              std::optional<TimePoint> until);

// One lane: one backend, called by one thread. Thread-safe.
class Batcher {
 public:
  struct Options {
    BatchQueue::Options queue;
    // False: a batch also waits for full, age or deadline while the device has nothing to do. Fuller
    // batches, for more latency.
    bool close_when_idle = true;
  };

  // Called from the lane's thread, before the batch is computed, or when the device failed. Either
  // may be empty.
  struct Observer {
    std::function<void(CloseReason reason, std::int64_t items, std::int64_t bytes)> batch_closed;
    std::function<void(const absl::Status& status)> backend_failed;
  };

  // `backend`, `executor` and `clock` outlive the batcher.
  Batcher(const Options& options, Backend* backend, Executor* executor, const Clock* clock,
          WaitFunction wait = RealWait, Observer observer = {});
  // Shuts down.
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // Every task gets its Done(), exactly once: from the lane's thread, or from this call when it is
  // refused (UNAVAILABLE: the queue is full, the backend failed, or the batcher was shut down).
  //
  // A batch that the device has no memory for is computed in halves, down to single tasks, which then
  // fail with the device's RESOURCE_EXHAUSTED. Any other failure of the backend is final: healthy()
  // becomes false, and all tasks from then on are UNAVAILABLE.
  void Submit(std::unique_ptr<ScoreTask> task);

  // Computes what is queued, then stops. Idempotent.
  void Shutdown();

  bool healthy() const { return healthy_.load(std::memory_order_acquire); }

  // Of tasks submitted and not done, whether queued or being computed.
  std::int64_t outstanding_bytes() const {
    return outstanding_bytes_.load(std::memory_order_relaxed);
  }
  std::int64_t queued_items() const;
  std::int64_t queued_bytes() const;
  std::int64_t max_queued_bytes() const { return options_.queue.max_queue_bytes; }
  Duration oldest_age() const;  // 0 if the queue is empty

 private:
  using Tasks = absl::Span<std::unique_ptr<ScoreTask>>;

  void Run();
  void Finish(ScoreTask& task, absl::Status status);
  void Score(const ScoreKey& key, Tasks tasks);
  absl::Status Failure() const;

  const Options options_;
  Backend* const backend_;
  Executor* const executor_;
  const Clock* const clock_;
  const WaitFunction wait_;
  const Observer observer_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  BatchQueue queue_;       // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
  std::atomic<bool> healthy_{true};
  std::atomic<std::int64_t> outstanding_bytes_{0};
  std::mutex join_mutex_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace softloss
