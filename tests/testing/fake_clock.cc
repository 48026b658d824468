#include "tests/testing/fake_clock.h"

#include <algorithm>

namespace softloss {

TimePoint FakeClock::Now() const {
  std::lock_guard lock(mutex_);
  return now_;
}

void FakeClock::Advance(Duration by) {
  std::vector<Waiter> due;
  {
    std::lock_guard lock(mutex_);
    now_ += by;
    std::copy_if(waiters_.begin(), waiters_.end(), std::back_inserter(due),
                 [&](const Waiter& waiter) { return waiter.until && *waiter.until <= now_; });
  }
  for (const Waiter& waiter : due) {
    // A registered waiter holds its mutex until it really waits, so this cannot come too early.
    std::lock_guard lock(*waiter.mutex);
    waiter.changed->notify_all();
  }
}

WaitFunction FakeClock::wait() {
  return [this](std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                std::optional<TimePoint> until) { Wait(changed, lock, until); };
}

void FakeClock::AwaitWaiter(std::optional<TimePoint> until) {
  std::unique_lock lock(mutex_);
  waiters_changed_.wait(lock, [&] {
    return std::any_of(waiters_.begin(), waiters_.end(),
                       [&](const Waiter& waiter) { return waiter.until == until; });
  });
}

void FakeClock::Wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                     std::optional<TimePoint> until) {
  {
    std::lock_guard guard(mutex_);
    if (until && *until <= now_) return;
    waiters_.push_back({&changed, lock.mutex(), until});
    waiters_changed_.notify_all();
  }
  changed.wait(lock);
  std::lock_guard guard(mutex_);
  waiters_.erase(std::find_if(waiters_.begin(), waiters_.end(),
                              [&](const Waiter& waiter) { return waiter.changed == &changed; }));
}

}  // namespace softloss
