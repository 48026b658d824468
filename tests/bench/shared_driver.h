// The load of StreamDriver, but in memory that client and server share; and the same in process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "server/worker_pool.h"
#include "softloss/client.h"
#include "tests/bench/stream_driver.h"

namespace softloss {

// Items of one workload: prediction, label and gradient of each that is in flight. Any failure ends the
// process with a message.
class SharedDriver {
 public:
  // Connects, and allocates with the client.
  SharedDriver(const std::string& address, const Workload& workload);

  // Seconds that `items` items took by shared memory, with workload.in_flight under way.
  double RunServer(std::int64_t items);
  // Seconds that they took by calling the kernels from here, on `threads` threads.
  double RunEngine(std::int64_t items, int threads);

 private:
  std::unique_ptr<Client> client_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<WorkerPool> workers_;
  std::vector<SharedMemory> memory_;
  std::vector<ScoreRequest> requests_;
};

}  // namespace softloss
