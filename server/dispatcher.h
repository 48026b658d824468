// Decides where a task is scored, and scores it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "kernels/backend.h"
#include "server/clock.h"
#include "server/fair_queue.h"
#include "server/lanes.h"
#include "server/score_task.h"
#include "server/worker_pool.h"

namespace softloss {

// On CPU backends a small task is scored on the calling (I/O) thread, straight from the received slices,
// because handing it to another thread would cost two wake-ups. One of kBulkBytes or more waits until
// the I/O thread has taken in what else has arrived, and so does every task that finds others waiting:
// then they are scored one at a time, tenants and their streams sharing by bytes (FairQueue), by the
// I/O threads and, from `spill_bytes` on, by a worker that is idle. Those of kLargeBytes, which only
// shared memory can hold, go to all workers. Device backends have lanes. Thread-safe.
class Dispatcher {
 public:
  // `lanes` is null for CPU backends. All outlive the dispatcher.
  Dispatcher(Backend* backend, WorkerPool* workers, Lanes* lanes, const Clock* clock,
             std::int64_t spill_bytes)
      : backend_(backend),
        workers_(workers),
        lanes_(lanes),
        clock_(clock),
        spill_bytes_(spill_bytes) {}

  static constexpr std::int64_t kBulkBytes = 128 << 10;
  static constexpr std::int64_t kLargeBytes = std::int64_t{16} << 20;

  // Scores the task, here or elsewhere, now or in its turn, and calls its Done() exactly once, perhaps
  // before returning. Must not be called with a lock held that Done() takes. Whoever calls this goes on
  // to call ScoreNext() until nothing waits.
  void Run(std::unique_ptr<ScoreTask> task);

  // Scores the task whose turn it is; does nothing if none waits.
  void ScoreNext();
  // Whether tasks wait for ScoreNext(), beside those that workers were woken for.
  bool waiting() const {
    return waiting_items_.load(std::memory_order_relaxed) >
           woken_workers_.load(std::memory_order_relaxed);
  }

  // What waits for ScoreNext(), a worker or a lane.
  std::int64_t queued_items() const;
  std::int64_t queued_bytes() const;
  Duration oldest_age() const;  // 0 if nothing does; without what workers are to do

 private:
  void ScoreNow(ScoreTask& task, Executor& executor);

  Backend* backend_;
  WorkerPool* workers_;
  Lanes* lanes_;
  const Clock* clock_;
  std::int64_t spill_bytes_;
  InlineExecutor inline_;

  mutable std::mutex mutex_;
  FairQueue<std::unique_ptr<ScoreTask>> waiting_;  // guarded by mutex_
  std::atomic<std::int64_t> waiting_items_{0};     // of waiting_, as the next
  std::atomic<std::int64_t> waiting_bytes_{0};
  std::atomic<std::int64_t> woken_workers_{0};  // each takes a task soon
};

}  // namespace softloss
