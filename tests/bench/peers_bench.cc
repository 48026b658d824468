// softlossd against servers in Python that do the same job (peers/), each driven with the same tensors.
// Usage: peers_bench OUTPUT.json
//
// SOFTLOSS_PYTHON runs the peer of torch, by default .venv's; SOFTLOSS_TRITON_PYTHON the peer of Triton,
// which is left out without it.

#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "tests/bench/bench_report.h"
#include "tests/bench/peer_driver.h"
#include "tests/bench/server_process.h"
#include "tests/bench/shared_driver.h"
#include "tests/bench/stream_driver.h"
#include "tests/bench/triton_driver.h"

namespace softloss {
namespace {

constexpr Workload kSmall{8 << 10, 64}, kMiddling{64 << 10, 32}, kLarge{2 << 20, 4};

// One comparison; `our_items` and `peer_items` take about a third of a second each.
struct Case {
  const char* name;
  Workload workload;
  std::int64_t our_items, peer_items;
  std::optional<double> at_least = std::nullopt, aim = std::nullopt;
};

using Run = std::function<double(const Workload&, std::int64_t items)>;

void Compare(const Case& c, const Run& ours, const Run& peer, BenchReport* report) {
  BenchRow row = MeasurePairs(
      c.name, "items/s",
      [&] { return static_cast<double>(c.our_items) / ours(c.workload, c.our_items); },
      [&] { return static_cast<double>(c.peer_items) / peer(c.workload, c.peer_items); });
  row.at_least = c.at_least;
  row.aim = c.aim;
  report->Add(std::move(row));
}

int Main(const std::string& output) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const std::string memory_socket = "/tmp/peers_bench." + std::to_string(getpid());
  const ServerProcess ours({SiblingProgram("softlossd"), "--listen=127.0.0.1:0", "--backend=cpu",
                            "--metrics_listen=off", "--shared_memory_socket=" + memory_socket});
  StreamDriver our_stream(ours.address(), Framing::kBatches);
  const Run by_wire = [&](const Workload& w, std::int64_t n) { return our_stream.Run(w, n); };
  BenchReport report("peers");
  {
    const char* const python = std::getenv("SOFTLOSS_PYTHON");
    const ServerProcess server(
        {python != nullptr ? python : SOFTLOSS_SOURCE_DIR "/.venv/bin/python",
         SOFTLOSS_SOURCE_DIR "/tests/bench/peers/aio_torch_server.py"});
    PeerDriver stream(server.address());
    const Run peer = [&](const Workload& w, std::int64_t n) { return stream.Run(w, n); };
    Compare({"8 KiB, 64 in flight; grpc.aio + torch", kSmall, 32768, 2048, 20, 35}, by_wire, peer,
            &report);
    Compare({"64 KiB, 32 in flight; grpc.aio + torch", kMiddling, 8192, 1024, 10, 18}, by_wire,
            peer, &report);
    Compare({"2 MiB, 4 in flight; grpc.aio + torch", kLarge, 512, 64, 3.5, 5}, by_wire, peer,
            &report);
    // What any server over this gRPC could reach by the wire.
    const ServerProcess raw_server({SiblingProgram("byte_server")});
    StreamDriver raw(raw_server.address());
    Compare(
        {"2 MiB, raw server; grpc.aio + torch", kLarge, 512, 64},
        [&](const Workload& w, std::int64_t n) { return raw.Run(w, n); }, peer, &report);
    SharedDriver shared(ours.address(), kLarge);
    Compare(
        {"2 MiB by shared memory; grpc.aio + torch", kLarge, 1024, 64, 8, 14},
        [&](const Workload&, std::int64_t n) { return shared.RunServer(n); }, peer, &report);
  }
  if (const char* const python = std::getenv("SOFTLOSS_TRITON_PYTHON")) {
    const ServerProcess server({python, SOFTLOSS_SOURCE_DIR "/tests/bench/peers/triton_server.py"});
    TritonDriver calls(server.address());
    const Run peer = [&](const Workload& w, std::int64_t n) { return calls.Run(w, n); };
    Compare({"8 KiB, 64 in flight; Triton + NumPy", kSmall, 32768, 1024, 5, 10}, by_wire, peer,
            &report);
    Compare({"64 KiB, 32 in flight; Triton + NumPy", kMiddling, 8192, 512, 5, 10}, by_wire, peer,
            &report);
    Compare({"2 MiB, 4 in flight; Triton + NumPy", kLarge, 512, 32, 5, 10}, by_wire, peer, &report);
  } else {
    std::puts("Triton is left out: SOFTLOSS_TRITON_PYTHON names no Python that has it");
  }
  unlink(memory_socket.c_str());
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
