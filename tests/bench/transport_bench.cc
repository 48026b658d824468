// What scoring costs on top of moving the bytes: softlossd against a server that only moves them,
// both driven by the same stream of the same messages.
// Usage: transport_bench OUTPUT.json [throughput|cpu|wire|clients|loads …], by default all of them.

#include <malloc.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <utility>

#include "tests/bench/transport_rows.h"

namespace softloss {
namespace {

constexpr struct {
  const char* name;
  Workload workload;
  double at_least;
  double aim;
} kCases[] = {
    {"small items, 8 KiB, 64 in flight", {8 << 10, 64}, 0.85, 0.95},
    {"64 KiB", {64 << 10, 32}, 0.90, 1.0},
    {"512 KiB", {512 << 10, 8}, 0.80, 0.88},
    {"2 MiB", {2 << 20, 4}, 0.75, 0.85},
    {"8 MiB", {8 << 20, 2}, 0.75, 0.85},
    {"64 MiB", {64 << 20, 1}, 0.75, 0.85},
};
constexpr std::int64_t kMostItemsARun = 32768;

void MeasureThroughput(const TransportServers& servers, BenchReport* report) {
  for (const auto& c : kCases) {
    const std::int64_t items = std::min(kBytesARun / c.workload.item_bytes, kMostItemsARun);
    const bool small = c.workload.item_bytes < (64 << 10);
    const double amount = static_cast<double>(items) *
                          (small ? 1.0 : static_cast<double>(c.workload.item_bytes) / 1e9);
    BenchRow row = MeasurePairs(
        c.name, small ? "items/s" : "GB/s",
        [&] { return amount / servers.our_stream.Run(c.workload, items); },
        [&] { return amount / servers.raw_stream.Run(c.workload, items); });
    row.at_least = c.at_least;
    row.aim = c.aim;
    report->Add(std::move(row));
  }
}

int Main(const std::string& output, const std::set<std::string>& groups) {
  const auto wanted = [&](const char* group) { return groups.empty() || groups.count(group) > 0; };
  // Both servers and this process keep large blocks: page faults are not what is compared.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const std::string memory_socket = "/tmp/transport_bench." + std::to_string(getpid());
  const ServerProcess ours(OurServer());
  const ServerProcess raw({SiblingProgram("byte_server")});
  StreamDriver our_stream(ours.address(), Framing::kBatches);
  StreamDriver raw_stream(raw.address());
  const TransportServers servers{ours, raw, our_stream, raw_stream};

  BenchReport report("transport");
  if (wanted("throughput")) MeasureThroughput(servers, &report);
  if (wanted("cpu")) MeasureCpu(servers, &report);
  if (wanted("wire")) MeasureWire(servers, &report);
  if (wanted("clients")) {
    const ServerProcess with_memory(OurServer({"--shared_memory_socket=" + memory_socket}));
    MeasureClients(servers, with_memory.address(), &report);
  }
  if (wanted("loads")) MeasureLoads(servers, &report);
  unlink(memory_socket.c_str());
  return report.Write(output) ? 0 : 1;
}

}  // namespace

std::vector<std::string> OurServer(std::vector<std::string> options) {
  std::vector<std::string> command = {SiblingProgram("softlossd"),
                                      "--listen=127.0.0.1:0",
                                      "--backend=cpu",
                                      "--io_threads=1",
                                      "--cpu_threads=1",
                                      "--metrics_listen=off",
                                      "--shared_memory_socket=off"};
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

}  // namespace softloss

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: transport_bench OUTPUT.json [GROUP...]\n");
    return 2;
  }
  return softloss::Main(argv[1], {argv + 2, argv + argc});
}
