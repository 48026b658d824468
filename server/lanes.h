// The lanes of a server: one for each device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/batcher.h"

namespace softloss {

// All of a kind: a task may go to any of them, and goes to the healthy one with the fewest bytes to do.
// Thread-safe; lanes are not added once there is a task.
class Lanes {
 public:
  void Add(std::unique_ptr<Batcher> lane) { lanes_.push_back(std::move(lane)); }
  bool empty() const { return lanes_.empty(); }

  // As Batcher::Submit. UNAVAILABLE, with a lane's reason, when none is healthy.
  void Submit(std::unique_ptr<ScoreTask> task);
  void Shutdown();

  // How many can still compute. Those that cannot are left out; their tasks have failed.
  std::int64_t healthy() const;

  std::int64_t queued_items() const;
  std::int64_t queued_bytes() const;
  std::int64_t max_queued_bytes() const;
  Duration oldest_age() const;  // 0 if nothing is queued

 private:
  std::vector<std::unique_ptr<Batcher>> lanes_;
};

}  // namespace softloss
