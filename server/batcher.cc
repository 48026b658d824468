#include "server/batcher.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status WhyDropped(const ScoreTask& task) {
  return task.cancelled.load(std::memory_order_relaxed)
             ? absl::CancelledError("cancelled before it was scored")
             : absl::DeadlineExceededError("item.timeout_ns: expired before it was scored");
}

}  // namespace

void RealWait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
              std::optional<TimePoint> until) {
  if (until) {
    changed.wait_until(lock, *until);
  } else {
    changed.wait(lock);
  }
}

Batcher::Batcher(const Options& options, Backend* backend, Executor* executor, const Clock* clock,
                 WaitFunction wait, Observer observer)
    : options_(options),
      backend_(backend),
      executor_(executor),
      clock_(clock),
      wait_(std::move(wait)),
      observer_(std::move(observer)),
      queue_(options.queue),
      thread_([this] { Run(); }) {}

Batcher::~Batcher() { Shutdown(); }

void Batcher::Finish(ScoreTask& task, absl::Status status) {
  outstanding_bytes_.fetch_sub(task.bytes, std::memory_order_relaxed);
  task.status = std::move(status);
  task.Done();
}

void Batcher::Submit(std::unique_ptr<ScoreTask> task) {
  outstanding_bytes_.fetch_add(task->bytes, std::memory_order_relaxed);
  absl::Status refused;
  {
    std::lock_guard lock(mutex_);
    if (!healthy()) {
      refused = Failure();
    } else if (stopping_) {
      refused = absl::UnavailableError("the server is shutting down");
    } else {
      refused = queue_.Add(task, clock_->Now());
    }
    if (refused.ok()) {
      changed_.notify_one();
      return;
    }
  }
  Finish(*task, std::move(refused));
}

void Batcher::Shutdown() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.Drain();
    changed_.notify_one();
  }
  std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

std::int64_t Batcher::queued_items() const {
  std::lock_guard lock(mutex_);
  return queue_.items();
}

std::int64_t Batcher::queued_bytes() const {
  std::lock_guard lock(mutex_);
  return queue_.bytes();
}

Duration Batcher::oldest_age() const {
  std::lock_guard lock(mutex_);
  const std::optional<TimePoint> oldest = queue_.oldest();
  return oldest ? std::max(clock_->Now() - *oldest, Duration::zero()) : Duration::zero();
}

void Batcher::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const TimePoint now = clock_->Now();
    std::vector<std::unique_ptr<ScoreTask>> dropped = queue_.TakeDropped(now);
    // This thread is the lane: while it looks, the device has nothing to do.
    std::optional<Batch> batch = queue_.Take(now, options_.close_when_idle);
    if (dropped.empty() && !batch) {
      if (stopping_ && queue_.empty()) return;
      wait_(changed_, lock, queue_.NextDeadline());
      continue;
    }
    lock.unlock();
    for (const std::unique_ptr<ScoreTask>& task : dropped) Finish(*task, WhyDropped(*task));
    if (batch) {
      if (observer_.batch_closed) {
        observer_.batch_closed(batch->reason, static_cast<std::int64_t>(batch->tasks.size()),
                               batch->bytes);
      }
      Score(batch->key, absl::MakeSpan(batch->tasks));
    }
    // Tasks are destroyed without the lock: they give memory and budget back.
    dropped.clear();
    batch.reset();
    lock.lock();
  }
}

void Batcher::Score(const ScoreKey& key, Tasks tasks) {
  if (!healthy()) {
    for (const std::unique_ptr<ScoreTask>& task : tasks) Finish(*task, Failure());
    return;
  }
  std::vector<Segment> segments;
  segments.reserve(tasks.size());
  for (const std::unique_ptr<ScoreTask>& task : tasks) segments.push_back(task->segment);

  const TimePoint start = clock_->Now();
  const absl::Status status = backend_->Score(key, absl::MakeSpan(segments), *executor_);
  const std::uint64_t compute_ns = Nanoseconds(clock_->Now() - start);

  if (status.ok()) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      tasks[i]->segment = std::move(segments[i]);
      tasks[i]->times.compute_ns += compute_ns;
      Finish(*tasks[i], absl::OkStatus());
    }
    return;
  }
  if (observer_.backend_failed) observer_.backend_failed(status);
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    if (tasks.size() == 1) {
      Finish(*tasks[0], status);
    } else {
      Score(key, tasks.first(tasks.size() / 2));
      Score(key, tasks.subspan(tasks.size() / 2));
    }
    return;
  }
  healthy_.store(false, std::memory_order_release);
  Score(key, tasks);  // refuses them
}

absl::Status Batcher::Failure() const {
  return absl::UnavailableError(
      absl::StrCat("backend ", std::string(backend_->name()), " failed and takes no more work"));
}

}  // namespace softloss
