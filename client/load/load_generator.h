// Runs a load against a server and says what came of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/load/load_run.h"
#include "client/load/prepared_item.h"
#include "softloss/client.h"

namespace softloss::load {

// Of all requests in the measured time, seconds summed, as the server reports them.
struct StageSums {
  double decode = 0, queue = 0, host_to_device = 0, compute = 0, device_to_host = 0, encode = 0;
};

struct LoadResult {
  std::vector<KindResult> kinds;
  StageSums stages;
  LatencyHistogram lag;       // how late requests were sent
  std::int64_t unsent = 0;    // of an open loop: due, and never sent
  double seconds = 0;         // that were measured
  double client_cores = 0;    // CPU seconds a second of this process, in the measured time
  double client_threads = 0;  // that may be busy: a channel's each, and the one that sends
  double machine_busy = 0;    // share of this machine's cores that were not idle, 0 to 1
  std::string numerics_id;
  std::string first_error;  // of wrong answers and failures, with what was wrong

  // Why this process, and not the server, is what limits the load; empty if nothing says so. The
  // threads of this process are busy 9/10 of the time, or it sends late: by more than a millisecond
  // and a tenth of the median latency, at the 99th percentile, with requests in flight to spare.
  std::string ClientLimit(const LoadOptions& options) const;
};

// Seconds gone of all; called about ten times a second. False ends the run: CANCELLED.
using Progress = std::function<bool(double seconds, std::int64_t completed)>;

// Warms up, measures, and waits for what is still in flight. Every answer's loss is
// checked, and the gradient of one in `check_every`. Failures and wrong answers are counted, not
// returned: the status is of the options. Blocks.
absl::StatusOr<LoadResult> RunLoad(const Client& client,
                                   absl::Span<const std::unique_ptr<PreparedItem>> items,
                                   absl::Span<const double> weights, const LoadOptions& options,
                                   int check_every, const Progress& progress);

}  // namespace softloss::load
