// What scoring costs on top of moving the bytes: softlossd against a server that only moves them,
// both driven by the same stream of the same messages. Usage: transport_bench OUTPUT.json

#include <malloc.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "tests/bench/bench_report.h"
#include "tests/bench/server_process.h"
#include "tests/bench/shared_driver.h"
#include "tests/bench/stream_driver.h"

namespace softloss {
namespace {

struct Case {
  const char* name;
  Workload workload;
  double at_least;
  double aim;
};

constexpr Case kCases[] = {
    {"small items, 8 KiB, 64 in flight", {8 << 10, 64}, 0.85, 0.95},
    {"64 KiB", {64 << 10, 32}, 0.90, 1.0},
    {"512 KiB", {512 << 10, 8}, 0.80, 0.88},
    {"2 MiB", {2 << 20, 4}, 0.75, 0.85},
    {"8 MiB", {8 << 20, 2}, 0.75, 0.85},
};

// About a third of a second of work for the baseline.
constexpr std::int64_t kBytesARun = std::int64_t{1} << 30;
constexpr std::int64_t kMostItemsARun = 32768;

// Tensors that do not travel, against ones that are only moved, and against no server at all. The
// engine has as many threads as the server.
void MeasureSharedMemory(const std::string& ours, StreamDriver& raw, BenchReport* report) {
  constexpr Workload kWorkload{2 << 20, 4};
  constexpr std::int64_t kItems = kBytesARun / kWorkload.item_bytes;
  constexpr double kGigabytes = static_cast<double>(kItems) * kWorkload.item_bytes / 1e9;
  constexpr int kThreads = 2;
  SharedDriver shared(ours, kWorkload);
  const auto by_server = [&] { return kGigabytes / shared.RunServer(kItems); };
  BenchRow row = MeasurePairs("2 MiB by shared memory, over raw f32", "GB/s", by_server,
                              [&] { return kGigabytes / raw.Run(kWorkload, kItems); });
  row.at_least = 3;
  row.aim = 5;
  report->Add(std::move(row));
  row = MeasurePairs("2 MiB by shared memory, over in process", "GB/s", by_server,
                     [&] { return kGigabytes / shared.RunEngine(kItems, kThreads); });
  row.at_least = 0.80;
  row.aim = 0.95;
  report->Add(std::move(row));
}

int Main(const std::string& output) {
  // Both servers and this process keep large blocks: page faults are not what is compared.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const std::string memory_socket = "/tmp/transport_bench." + std::to_string(getpid());
  const ServerProcess ours({SiblingProgram("softlossd"), "--listen=127.0.0.1:0", "--backend=cpu",
                            "--io_threads=1", "--cpu_threads=1", "--metrics_listen=off",
                            "--shared_memory_socket=" + memory_socket});
  const ServerProcess raw({SiblingProgram("byte_server")});
  StreamDriver our_stream(ours.address(), Framing::kBatches);
  StreamDriver raw_stream(raw.address());

  BenchReport report("transport");
  for (const Case& c : kCases) {
    const std::int64_t items = std::min(kBytesARun / c.workload.item_bytes, kMostItemsARun);
    const bool small = c.workload.item_bytes < (64 << 10);
    const double amount = static_cast<double>(items) *
                          (small ? 1.0 : static_cast<double>(c.workload.item_bytes) / 1e9);
    BenchRow row = MeasurePairs(
        c.name, small ? "items/s" : "GB/s",
        [&] { return amount / our_stream.Run(c.workload, items); },
        [&] { return amount / raw_stream.Run(c.workload, items); });
    row.at_least = c.at_least;
    row.aim = c.aim;
    report.Add(std::move(row));
  }
  MeasureSharedMemory(ours.address(), raw_stream, &report);
  unlink(memory_socket.c_str());
  return report.Write(output) ? 0 : 1;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: transport_bench OUTPUT.json\n");
    return 2;
  }
  return softloss::Main(argv[1]);
}
