// A device backend that a test holds, fails and looks into. Its arithmetic is the reference's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace softloss {

// Thread-safe.
class FakeDevice final : public Backend {
 public:
  struct Call {
    ScoreKey key;
    std::vector<std::int64_t> rows;  // a segment
    absl::Status status;
  };

  FakeDevice();

  std::string_view name() const override { return "fake"; }
  std::string numerics_id() const override;
  absl::Status Supports(const ScoreKey& key) const override;
  absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) override;

  // While the gate is shut, Score waits at it.
  void ShutGate();
  void OpenGate();
  // Blocks until a call waits at the gate.
  void AwaitHeldCall();

  // What the next calls answer, in order, without computing; then it is back to normal.
  void FailNext(absl::Status status);
  // Batches of more rows than this are out of memory.
  void SetMaxRows(std::int64_t rows);

  std::vector<Call> calls() const;

 private:
  const std::unique_ptr<Backend> reference_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool shut_ = false;
  bool held_ = false;
  std::int64_t max_rows_;
  std::deque<absl::Status> failures_;
  std::vector<Call> calls_;
};

}  // namespace softloss
