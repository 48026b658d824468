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
  if (lanes_ != nullptr) {
    lanes_->Submit(std::move(task));
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
  const std::int64_t bytes = task->bytes;
  if (bytes < kBulkBytes && !waiting()) {
    ScoreNow(*task, inline_);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    waiting_.Push(task->tenant, task->flow, bytes, std::move(task));
    ++waiting_items_;
    waiting_bytes_ += bytes;
  }
  if (bytes < spill_bytes_) return;
  // Which task the worker gets is the queue's to say.
  ++woken_workers_;
  const bool woken = workers_->SubmitIfIdle([this] {
    --woken_workers_;
    ScoreNext();
  });
  if (!woken) --woken_workers_;
}

void Dispatcher::ScoreNext() {
  std::unique_ptr<ScoreTask> task;
  {
    std::lock_guard lock(mutex_);
    if (waiting_.size() == 0) return;
    task = waiting_.Pop();
    --waiting_items_;
    waiting_bytes_ -= task->bytes;
  }
  ScoreNow(*task, inline_);
}

std::int64_t Dispatcher::queued_items() const {
  return waiting_items_ + static_cast<std::int64_t>(workers_->queued()) +
         (lanes_ != nullptr ? lanes_->queued_items() : 0);
}

std::int64_t Dispatcher::queued_bytes() const {
  return waiting_bytes_ + (lanes_ != nullptr ? lanes_->queued_bytes() : 0);
}

Duration Dispatcher::oldest_age() const {
  if (lanes_ != nullptr) return lanes_->oldest_age();
  std::lock_guard lock(mutex_);
  const TimePoint now = clock_->Now();
  TimePoint oldest = now;
  waiting_.ForEach(
      [&](const std::unique_ptr<ScoreTask>& task) { oldest = std::min(oldest, task->arrived); });
  return now - oldest;
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
