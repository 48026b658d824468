// A run of the load, as policy: which request is due when, and what came of it. No threads, no clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/load/arrivals.h"
#include "client/load/latency_histogram.h"

namespace softloss::load {

struct LoadOptions {
  ArrivalKind arrivals = ArrivalKind::kClosed;
  double rate = 0;     // requests a second, of open loops
  int in_flight = 16;  // of closed loops
  // Open loops hold requests back at so many in flight. They are late then, and their latency says so:
  // it is counted from when they were due.
  int most_in_flight = 10'000;
  absl::Duration warmup = absl::Seconds(1);  // not measured
  absl::Duration duration = absl::Seconds(10);
  absl::Duration timeout = absl::Seconds(30);  // of a request
  std::uint64_t seed = 1;
};
// INVALID_ARGUMENT names the option, the rule and the value.
absl::Status Validate(const LoadOptions& options);

// What became of the requests of a kind that were due in the measured time.
struct KindResult {
  std::int64_t sent = 0;
  std::int64_t succeeded = 0;
  std::int64_t wrong = 0;  // answered, but not with what this process computed
  std::map<absl::StatusCode, std::int64_t> failed;
  std::int64_t completed_in_time = 0;  // successes within the measured time: goodput
  LatencyHistogram latency;            // of the successes, from when they were due
};

struct Sent {
  int kind = 0;
  absl::Duration due;
};

// Not thread-safe. Times count from the run's start and never go back.
class LoadRun {
 public:
  // `weights` of the kinds, ≥ 0, of which one is positive.
  LoadRun(const LoadOptions& options, absl::Span<const double> weights);

  // A request to be sent now, or nothing: then look again after a completion, or at NextDue().
  std::optional<Sent> NextSend(absl::Duration now);
  // When an open loop has its next request; nothing where only a completion helps, or after the end.
  std::optional<absl::Duration> NextDue() const;

  enum class Outcome : std::uint8_t { kRight, kWrong, kFailed };
  void Complete(const Sent& sent, absl::Duration now, Outcome outcome,
                absl::StatusCode code = absl::StatusCode::kOk);

  absl::Duration end() const { return options_.warmup + options_.duration; }
  // Sends nothing more.
  void Stop() { stopped_ = true; }
  // Nothing more will be sent, and all that was has completed.
  bool Done(absl::Duration now) const { return (stopped_ || now >= end()) && in_flight_ == 0; }

  int in_flight() const { return in_flight_; }
  const std::vector<KindResult>& kinds() const { return kinds_; }
  // How late requests were sent, in the measured time: what this machine adds to their latency.
  const LatencyHistogram& lag() const { return lag_; }
  // Open loops: requests that were due by the end, and had not been sent.
  std::int64_t Unsent() const;

 private:
  bool Measured(absl::Duration due) const { return due >= options_.warmup && due < end(); }
  int DrawKind();

  const LoadOptions options_;
  std::vector<double> share_;  // cumulative
  Arrivals arrivals_;
  std::mt19937_64 random_;
  std::optional<absl::Duration> due_;  // the open loop's next
  int in_flight_ = 0;
  bool stopped_ = false;
  std::vector<KindResult> kinds_;
  LatencyHistogram lag_;
};

}  // namespace softloss::load
