// softlossd against servers in Python that do the same job (peers/), each driven by one stream of the
// same tensors. Usage: peers_bench OUTPUT.json

#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "tests/bench/bench_report.h"
#include "tests/bench/peer_driver.h"
#include "tests/bench/server_process.h"
#include "tests/bench/stream_driver.h"

namespace softloss {
namespace {

struct Case {
  const char* name;
  Workload workload;
  std::int64_t our_items, peer_items;
  double at_least;
  double aim;
};

// Items of about a third of a second each.
constexpr Case kCases[] = {
    {"8 KiB, 64 in flight; grpc.aio + torch", {8 << 10, 64}, 32768, 2048, 20, 35},
    {"64 KiB, 32 in flight; grpc.aio + torch", {64 << 10, 32}, 8192, 1024, 10, 18},
    {"2 MiB, 4 in flight; grpc.aio + torch", {2 << 20, 4}, 512, 64, 3.5, 5},
};

int Main(const std::string& output) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const char* const python = std::getenv("SOFTLOSS_PYTHON");
  const ServerProcess ours({SiblingProgram("softlossd"), "--listen=127.0.0.1:0", "--backend=cpu",
                            "--metrics_listen=off", "--shared_memory_socket=off"});
  const ServerProcess peer({python != nullptr ? python : SOFTLOSS_SOURCE_DIR "/.venv/bin/python",
                            SOFTLOSS_SOURCE_DIR "/tests/bench/peers/aio_torch_server.py"});
  StreamDriver our_stream(ours.address(), Framing::kBatches);
  PeerDriver peer_stream(peer.address());
  BenchReport report("peers");
  for (const Case& c : kCases) {
    BenchRow row = MeasurePairs(
        c.name, "items/s",
        [&] { return static_cast<double>(c.our_items) / our_stream.Run(c.workload, c.our_items); },
        [&] {
          return static_cast<double>(c.peer_items) / peer_stream.Run(c.workload, c.peer_items);
        });
    row.at_least = c.at_least;
    row.aim = c.aim;
    report.Add(std::move(row));
  }
  return report.Write(output) ? 0 : 1;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: peers_bench OUTPUT.json\n");
    return 2;
  }
  return softloss::Main(argv[1]);
}
