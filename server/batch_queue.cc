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
  const ScoreTask& added = *task;
  group.bytes += added.bytes;
  bytes_ += added.bytes;
  ++items_;
  Entry entry{std::move(task), now, next_sequence_++};
  group.Note(entry);
  group.entries.Push(added.tenant, added.flow, added.bytes, std::move(entry));
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
    if (oldest == groups_.end() || it->second.sequence < oldest->second.sequence) {
      oldest = it;
      reason = closed;
    }
  }
  if (oldest == groups_.end()) return std::nullopt;

  Group& group = oldest->second;
  Batch batch{.key = oldest->first, .reason = *reason};
  do {
    Entry entry = group.entries.Pop();
    entry.task->times.queue_ns = Nanoseconds(now - entry.added);
    batch.bytes += entry.task->bytes;
    Forget(group, *entry.task);
    batch.tasks.push_back(std::move(entry.task));
  } while (group.entries.size() > 0 &&
           batch.bytes + group.entries.NextCost() <= options_.max_batch_bytes);
  if (group.entries.size() == 0) {
    groups_.erase(oldest);
  } else {
    Refresh(group);
  }
  return batch;
}

std::optional<TimePoint> BatchQueue::NextDeadline() const {
  if (!dropped_.empty() || (draining_ && items_ > 0)) return TimePoint::min();
  std::optional<TimePoint> next;
  for (const auto& [key, group] : groups_) {
    const TimePoint closes = group.bytes >= options_.max_batch_bytes
                                 ? TimePoint::min()
                                 : std::min(group.added + options_.max_age, DeadlineClose(group));
    next = std::min(next.value_or(TimePoint::max()), closes);
  }
  return next;
}

std::optional<TimePoint> BatchQueue::oldest() const {
  std::optional<TimePoint> oldest;
  for (const auto& [key, group] : groups_) {
    oldest = std::min(oldest.value_or(group.added), group.added);
  }
  return oldest;
}

std::optional<CloseReason> BatchQueue::Closed(const Group& group, TimePoint now,
                                              bool lane_idle) const {
  if (group.bytes >= options_.max_batch_bytes) return CloseReason::kFull;
  if (draining_) return CloseReason::kDrain;
  if (DeadlineClose(group) <= now) return CloseReason::kDeadline;
  if (group.added + options_.max_age <= now) return CloseReason::kAge;
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
    const std::size_t erased = group.entries.EraseIf([&](Entry& entry) {
      if (!Dead(*entry.task, now)) return false;
      Forget(group, *entry.task);
      entry.task->times.queue_ns = Nanoseconds(now - entry.added);
      dropped_.push_back(std::move(entry.task));
      return true;
    });
    if (group.entries.size() == 0) {
      groups_.erase(it++);
      continue;
    }
    if (erased > 0) Refresh(group);
    ++it;
  }
}

void BatchQueue::Forget(Group& group, const ScoreTask& task) {
  group.bytes -= task.bytes;
  bytes_ -= task.bytes;
  --items_;
}

void BatchQueue::Group::Note(const Entry& entry) {
  deadline = std::min(deadline, entry.task->deadline);
  added = std::min(added, entry.added);
  sequence = std::min(sequence, entry.sequence);
}

void BatchQueue::Refresh(Group& group) {
  group.deadline = group.added = TimePoint::max();
  group.sequence = std::numeric_limits<std::uint64_t>::max();
  group.entries.ForEach([&](const Entry& entry) { group.Note(entry); });
}

}  // namespace softloss
