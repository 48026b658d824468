// One chunk on its way through a backend.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "server/clock.h"

namespace softloss {

// Where a task's time went; StageTimes on the wire.
struct TaskTimes {
  std::uint64_t decode_ns = 0;
  std::uint64_t queue_ns = 0;
  std::uint64_t host_to_device_ns = 0;
  std::uint64_t compute_ns = 0;
  std::uint64_t device_to_host_ns = 0;
  std::uint64_t encode_ns = 0;
};

// Owned by whoever is to act on it next. Subclasses keep alive what `segment` points to.
class ScoreTask {
 public:
  virtual ~ScoreTask() = default;

  ScoreKey key;
  Segment segment;
  std::int64_t bytes = 0;  // request + reply tensors
  // Who shares the backend: compared by address, never followed.
  const void* tenant = nullptr;
  const void* flow = nullptr;  // of the tenant's: a stream, or a unary call
  TimePoint arrived;
  TimePoint deadline = TimePoint::max();
  TaskTimes times;

  // Set by the session; a task that is cancelled or past its deadline is never computed.
  std::atomic<bool> cancelled{false};

  // OK once scored (segment.status may still refuse the contents); CANCELLED, DEADLINE_EXCEEDED or
  // the backend's own failure otherwise.
  absl::Status status;

  // Called once, from any thread, when `status` is final. The task is deleted afterwards by the
  // caller.
  virtual void Done() = 0;
};

}  // namespace softloss
