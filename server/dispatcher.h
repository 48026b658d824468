// Decides where a task is scored, and scores it.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "server/batcher.h"
#include "server/clock.h"
#include "server/score_task.h"
#include "server/worker_pool.h"

namespace softloss {

// CPU backends score on the calling (I/O) thread, straight from the received slices, because handing
// a chunk to another thread would cost two wake-ups; chunks of at least `spill_bytes` go to a worker
// when one is idle, and those of kLargeBytes, which only shared memory can hold, to all of them. Device backends have a lane: a Batcher. Thread-safe.
class Dispatcher {
 public:
  // `lane` is null for CPU backends. All outlive the dispatcher.
  Dispatcher(Backend* backend, WorkerPool* workers, Batcher* lane, const Clock* clock,
             std::int64_t spill_bytes)
      : backend_(backend),
        workers_(workers),
        lane_(lane),
        clock_(clock),
        spill_bytes_(spill_bytes) {}

  static constexpr std::int64_t kLargeBytes = std::int64_t{16} << 20;

  // Scores the task, here or elsewhere, and calls its Done() exactly once, perhaps before returning.
  // Must not be called with a lock held that Done() takes.
  void Run(std::unique_ptr<ScoreTask> task);

 private:
  void ScoreNow(ScoreTask& task, Executor& executor);

  Backend* backend_;
  WorkerPool* workers_;
  Batcher* lane_;
  const Clock* clock_;
  std::int64_t spill_bytes_;
  InlineExecutor inline_;
};

}  // namespace softloss
