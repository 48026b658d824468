#include "server/batch_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

bool Dead(const ScoreTask& task, TimePoint now) {
  return task.cancelled.load(std::memory_order_relaxed) || task.deadline <= now;
}

}  // namespace

std::string_view Name(CloseReason reason) {
  switch (reason) {
    case CloseReason::kFull: return "full";
    case CloseReason::kAge: return "age";
    case CloseReason::kDeadline: return "deadline";
    case CloseReason::kIdle: return "idle";
    case CloseReason::kDrain: return "drain";
  }
  return "unknown";
}

absl::Status BatchQueue::Add(std::unique_ptr<ScoreTask>& task, TimePoint now) {
  if (items_ > 0 && task->bytes > options_.max_queue_bytes - bytes_) {
    return absl::UnavailableError(absl::StrCat("batch queue: the limit is ",
                                               options_.max_queue_bytes, " bytes, queued ", bytes_,
                                               "; the task has ", task->bytes));
  }
  Group& group = groups_[task->key];
  group.bytes += task->bytes;
  group.deadline = std::min(group.deadline, task->deadline);
  bytes_ += task->bytes;
  ++items_;
  group.entries.push_back({std::move(task), now, next_sequence_++});
  return absl::OkStatus();
}

std::vector<std::unique_ptr<ScoreTask>> BatchQueue::TakeDropped(TimePoint now) {
  Sweep(now);
  return std::exchange(dropped_, {});
}

std::optional<Batch> BatchQueue::Take(TimePoint now, bool lane_idle) {
  Sweep(now);
  Groups::iterator oldest = groups_.end();
  std::optional<CloseReason> reason;
  for (auto it = groups_.begin(); it != groups_.end(); ++it) {
    const std::optional<CloseReason> closed = Closed(it->second, now, lane_idle);
    if (!closed) continue;
    if (oldest == groups_.end() ||
        it->second.entries.front().sequence < oldest->second.entries.front().sequence) {
      oldest = it;
      reason = closed;
    }
  }
  if (oldest == groups_.end()) return std::nullopt;

  Group& group = oldest->second;
  Batch batch{.key = oldest->first, .reason = *reason};
  do {
    Entry& entry = group.entries.front();
    entry.task->times.queue_ns = Nanoseconds(now - entry.added);
    batch.bytes += entry.task->bytes;
    Forget(group, *entry.task);
    batch.tasks.push_back(std::move(entry.task));
    group.entries.pop_front();
  } while (!group.entries.empty() &&
           batch.bytes + group.entries.front().task->bytes <= options_.max_batch_bytes);
  if (group.entries.empty()) {
    groups_.erase(oldest);
  } else {
    RefreshDeadline(group);
  }
  return batch;
}

std::optional<TimePoint> BatchQueue::NextDeadline() const {
  if (!dropped_.empty() || (draining_ && items_ > 0)) return TimePoint::min();
  std::optional<TimePoint> next;
  for (const auto& [key, group] : groups_) {
    const TimePoint closes =
        group.bytes >= options_.max_batch_bytes
            ? TimePoint::min()
            : std::min(group.entries.front().added + options_.max_age, DeadlineClose(group));
    next = std::min(next.value_or(TimePoint::max()), closes);
  }
  return next;
}

std::optional<TimePoint> BatchQueue::oldest() const {
  std::optional<TimePoint> oldest;
  for (const auto& [key, group] : groups_) {
    const TimePoint added = group.entries.front().added;
    oldest = std::min(oldest.value_or(added), added);
  }
  return oldest;
}

std::optional<CloseReason> BatchQueue::Closed(const Group& group, TimePoint now,
                                              bool lane_idle) const {
  if (group.bytes >= options_.max_batch_bytes) return CloseReason::kFull;
  if (draining_) return CloseReason::kDrain;
  if (DeadlineClose(group) <= now) return CloseReason::kDeadline;
  if (group.entries.front().added + options_.max_age <= now) return CloseReason::kAge;
  if (lane_idle) return CloseReason::kIdle;
  return std::nullopt;
}

TimePoint BatchQueue::DeadlineClose(const Group& group) const {
  return group.deadline == TimePoint::max() ? TimePoint::max()
                                            : group.deadline - options_.deadline_margin;
}

void BatchQueue::Sweep(TimePoint now) {
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group& group = it->second;
    const std::size_t before = group.entries.size();
    std::erase_if(group.entries, [&](Entry& entry) {
      if (!Dead(*entry.task, now)) return false;
      Forget(group, *entry.task);
      entry.task->times.queue_ns = Nanoseconds(now - entry.added);
      dropped_.push_back(std::move(entry.task));
      return true;
    });
    if (group.entries.empty()) {
      groups_.erase(it++);
      continue;
    }
    if (group.entries.size() != before) RefreshDeadline(group);
    ++it;
  }
}

void BatchQueue::Forget(Group& group, const ScoreTask& task) {
  group.bytes -= task.bytes;
  bytes_ -= task.bytes;
  --items_;
}

void BatchQueue::RefreshDeadline(Group& group) {
  group.deadline = TimePoint::max();
  for (const Entry& entry : group.entries) {
    group.deadline = std::min(group.deadline, entry.task->deadline);
  }
}

}  // namespace softloss
