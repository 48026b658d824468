// Which chunks go to a device together, and when: policy without threads or clocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "kernels/plan.h"
#include "server/clock.h"
#include "server/fair_queue.h"
#include "server/score_task.h"

namespace softloss {

// Why a batch was closed.
enum class CloseReason : std::uint8_t {
  kFull,      // max_batch_bytes
  kAge,       // its oldest task waited max_age
  kDeadline,  // one of its tasks is within deadline_margin of its deadline
  kIdle,      // the device had nothing to do
  kDrain,
};
inline constexpr int kCloseReasons = 5;

// "full", "age", "deadline", "idle", "drain".
std::string_view Name(CloseReason reason);

// Tasks of one key, in order of arrival.
struct Batch {
  ScoreKey key;
  std::vector<std::unique_ptr<ScoreTask>> tasks;
  std::int64_t bytes = 0;
  CloseReason reason = CloseReason::kIdle;
};

// Groups tasks by key. Between keys the task that has waited longest decides; within one, tenants and
// their streams share by bytes when not all fits into a batch (FairQueue). Never hands out a cancelled
// or expired task for computing. Not thread-safe.
class BatchQueue {
 public:
  struct Options {
    // A batch takes tasks while they fit; a task larger than this goes alone.
    std::int64_t max_batch_bytes = std::int64_t{32} << 20;
    Duration max_age = std::chrono::microseconds(500);
    Duration deadline_margin = std::chrono::milliseconds(1);
    std::int64_t max_queue_bytes = std::int64_t{512} << 20;
  };

  explicit BatchQueue(Options options) : options_(options) {}

  // Takes `task` if OK. UNAVAILABLE, naming the rule, if the queue holds max_queue_bytes; but an
  // empty queue takes any task.
  absl::Status Add(std::unique_ptr<ScoreTask>& task, TimePoint now);

  // The cancelled and expired tasks, to be answered and not computed.
  std::vector<std::unique_ptr<ScoreTask>> TakeDropped(TimePoint now);

  // The oldest batch that is closed at `now`, if any; an idle lane closes whatever there is. The
  // task's times.queue_ns are filled in.
  std::optional<Batch> Take(TimePoint now, bool lane_idle);

  // When Take(·, false) or TakeDropped has something to give if nothing is added before; never later
  // than that. TimePoint::min() = now. Absent if empty.
  std::optional<TimePoint> NextDeadline() const;

  // From now on every batch is closed.
  void Drain() { draining_ = true; }

  bool empty() const { return items_ == 0; }
  std::int64_t items() const { return items_; }
  std::int64_t bytes() const { return bytes_; }
  std::int64_t max_bytes() const { return options_.max_queue_bytes; }
  // When the task that has waited longest was added.
  std::optional<TimePoint> oldest() const;

 private:
  struct Entry {
    std::unique_ptr<ScoreTask> task;
    TimePoint added;
    std::uint64_t sequence;  // orders tasks added at the same instant
  };
  // Never empty.
  struct Group {
    FairQueue<Entry> entries;
    std::int64_t bytes = 0;
    TimePoint deadline = TimePoint::max();  // the earliest of the entries', as the next two
    TimePoint added = TimePoint::max();
    std::uint64_t sequence = std::numeric_limits<std::uint64_t>::max();

    void Note(const Entry& entry);
  };
  using Groups = absl::flat_hash_map<ScoreKey, Group>;

  std::optional<CloseReason> Closed(const Group& group, TimePoint now, bool lane_idle) const;
  TimePoint DeadlineClose(const Group& group) const;
  void Sweep(TimePoint now);
  void Forget(Group& group, const ScoreTask& task);
  static void Refresh(Group& group);

  const Options options_;
  Groups groups_;
  std::vector<std::unique_ptr<ScoreTask>> dropped_;
  std::int64_t items_ = 0;  // without dropped_, as bytes_
  std::int64_t bytes_ = 0;
  std::uint64_t next_sequence_ = 0;
  bool draining_ = false;
};

}  // namespace softloss
