#include "tests/testing/fake_device.h"

#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "kernels/backends.h"

namespace softloss {

FakeDevice::FakeDevice()
    : reference_(MakeReferenceBackend()), max_rows_(std::numeric_limits<std::int64_t>::max()) {}

std::string FakeDevice::numerics_id() const { return reference_->numerics_id(); }

absl::Status FakeDevice::Supports(const ScoreKey& key) const { return reference_->Supports(key); }

absl::Status FakeDevice::Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) {
  Call call{.key = key};
  for (const Segment& segment : batch) call.rows.push_back(segment.rows);
  const std::int64_t rows = std::accumulate(call.rows.begin(), call.rows.end(), std::int64_t{0});
  {
    std::unique_lock lock(mutex_);
    held_ = shut_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !shut_; });
    held_ = false;
    if (!failures_.empty()) {
      call.status = std::move(failures_.front());
      failures_.pop_front();
    } else if (rows > max_rows_) {
      call.status = absl::ResourceExhaustedError(
          absl::StrCat("device memory: at most ", max_rows_, " rows; was ", rows));
    }
    calls_.push_back(call);
  }
  return call.status.ok() ? reference_->Score(key, batch, executor) : call.status;
}

void FakeDevice::ShutGate() {
  std::lock_guard lock(mutex_);
  shut_ = true;
}

void FakeDevice::OpenGate() {
  std::lock_guard lock(mutex_);
  shut_ = false;
  changed_.notify_all();
}

void FakeDevice::AwaitHeldCall() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return held_; });
}

void FakeDevice::FailNext(absl::Status status) {
  std::lock_guard lock(mutex_);
  failures_.push_back(std::move(status));
}

void FakeDevice::SetMaxRows(std::int64_t rows) {
  std::lock_guard lock(mutex_);
  max_rows_ = rows;
}

std::vector<FakeDevice::Call> FakeDevice::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

}  // namespace softloss
