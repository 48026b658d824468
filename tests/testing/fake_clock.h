// Time that moves when a test says so.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "server/batcher.h"
#include "server/clock.h"

namespace softloss {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  TimePoint Now() const override;

  // Moves on, and wakes those whose time has come.
  void Advance(Duration by);

  // A WaitFunction on this clock. It must outlive the waits.
  WaitFunction wait();

  // Blocks until somebody waits exactly until `until` (absent: until notified).
  void AwaitWaiter(std::optional<TimePoint> until);

 private:
  struct Waiter {
    std::condition_variable* changed;
    std::mutex* mutex;
    std::optional<TimePoint> until;
  };

  void Wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
            std::optional<TimePoint> until);

  mutable std::mutex mutex_;
  std::condition_variable waiters_changed_;
  TimePoint now_ = TimePoint(std::chrono::hours(1));  // guarded by mutex_
  std::vector<Waiter> waiters_;                       // guarded by mutex_
};

}  // namespace softloss
