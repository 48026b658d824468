#include "server/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/types/span.h"

namespace softloss {

void Dispatcher::Run(std::unique_ptr<ScoreTask> task) {
  if (task->segment.rows == 0) {  // the end of an empty item
    task->Done();
    return;
  }
  if (lane_ != nullptr) {
    lane_->Submit(std::move(task));
    return;
  }
  if (task->bytes >= kLargeBytes) {
    // The I/O thread has others to serve meanwhile.
    workers_->Submit([this, raw = task.release()] {
      std::unique_ptr<ScoreTask> owned(raw);
      ScoreNow(*owned, *workers_);
    });
    return;
  }
  if (task->bytes >= spill_bytes_) {
    // std::function wants copyable captures.
    ScoreTask* raw = task.get();
    const bool taken = workers_->SubmitIfIdle([this, raw] {
      std::unique_ptr<ScoreTask> owned(raw);
      ScoreNow(*owned, inline_);
    });
    if (taken) {
      (void)task.release();  // the worker has it
      return;
    }
  }
  ScoreNow(*task, inline_);
}

void Dispatcher::ScoreNow(ScoreTask& task, Executor& executor) {
  const TimePoint start = clock_->Now();
  const std::uint64_t waited = Nanoseconds(start - task.arrived);
  task.times.queue_ns += waited - std::min(waited, task.times.decode_ns);
  if (task.cancelled.load(std::memory_order_relaxed)) {
    task.status = absl::CancelledError("cancelled before it was scored");
  } else if (start >= task.deadline) {
    task.status = absl::DeadlineExceededError("item.timeout_ns: expired before it was scored");
  } else {
    task.status = backend_->Score(task.key, absl::MakeSpan(&task.segment, 1), executor);
    task.times.compute_ns += Nanoseconds(clock_->Now() - start);
  }
  task.Done();
}

}  // namespace softloss
