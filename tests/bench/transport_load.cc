#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

#include "client/load/load_generator.h"
#include "tests/bench/mixed_load.h"
#include "tests/bench/transport_rows.h"

namespace softloss {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "transport_bench: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

// Seconds that 99 of 100 items of 8 KiB take at most, one in flight.
double Small99(StreamDriver& stream) {
  constexpr int kItems = 500, kAt = kItems * 99 / 100;
  std::vector<double> seconds(kItems);
  for (double& s : seconds) s = stream.Run({8 << 10, 1}, 1);
  std::nth_element(seconds.begin(), seconds.begin() + kAt, seconds.end());
  return seconds[kAt];
}

// Keeps a server busy with items of 2 MiB, on a connection of its own, while it exists.
class Bulk {
 public:
  explicit Bulk(StreamDriver& stream)
      : thread_([this, &stream] {
          while (!stop_.load(std::memory_order_relaxed)) stream.Run({2 << 20, 4}, 16);
        }) {}
  ~Bulk() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void MeasureSmallBesideBulk(const TransportServers& servers, BenchReport* report) {
  const struct {
    const char* name;
    const ServerProcess& server;
    StreamDriver& small;
    bool ours;
  } cases[] = {{"8 KiB beside bulk: p99 over alone", servers.ours, servers.our_stream, true},
               {"the same, raw server", servers.raw, servers.raw_stream, false}};
  for (const auto& c : cases) {
    StreamDriver bulk(c.server.address());
    BenchRow row = MeasurePairs(
        c.name, "ms",
        [&] {
          const Bulk busy(bulk);
          return 1e3 * Small99(c.small);
        },
        [&] { return 1e3 * Small99(c.small); }, kFewPairs);
    if (c.ours) {
      row.at_most = 5;
      row.aim = 2.5;
    }
    report->Add(std::move(row));
  }
}

// Requests due five times as often as the server can serve them, with more credit than it has memory.
void MeasureOverload(BenchReport* report) {
  constexpr double kBudget = 256 << 20;
  constexpr int kChannels = 8;
  const ServerProcess server(OurServer(
      {"--global_budget_bytes=256MiB", "--slab_cache_bytes=64MiB", "--stream_credit_bytes=64MiB"}));
  const Client client = OrDie(Client::Connect(server.address(), {.channels = kChannels}));
  load::ItemKind kind{.name = "64 KiB"};
  kind.spec.loss = Loss::kSoftmaxCrossEntropy;
  kind.item.shape = {128, Workload::kClasses};
  kind.item.class_axis = -1;
  kind.item.gradient = DType::kF32;
  std::unique_ptr<load::PreparedItem> items[] = {OrDie(load::PreparedItem::Create(kind, 1))};
  double most_resident = 0;
  const auto goodput = [&](const load::LoadOptions& options) {
    const load::LoadResult result =
        OrDie(load::RunLoad(client, items, {1.0}, options, 0, [&](double, std::int64_t) {
          most_resident = std::max(most_resident, server.ResidentBytes());
          return true;
        }));
    return static_cast<double>(result.kinds[0].completed_in_time) / result.seconds;
  };
  load::LoadOptions closed{.in_flight = 64};
  closed.warmup = absl::ZeroDuration();  // what is answered counts, from the first request on
  closed.duration = absl::Seconds(1);
  load::LoadOptions open = closed;
  open.arrivals = load::ArrivalKind::kPoisson;
  open.rate = 5 * goodput(closed);
  BenchRow row = MeasurePairs(
      "64 KiB at 5x capacity: goodput over peak", "items/s", [&] { return goodput(open); },
      [&] { return goodput(closed); }, kFewPairs);
  row.at_least = 0.85;
  row.aim = 0.95;
  report->Add(std::move(row));
  row = {.name = "the same: resident memory over budget", .unit = "MB"};
  row.value = most_resident / 1e6;
  row.baseline = kBudget / 1e6;
  row.ratio = row.value / row.baseline;
  row.at_most = 1.1;
  row.aim = 1.0;
  report->Add(std::move(row));
}

void MeasureMemory(BenchReport* report) {
  const ServerProcess server(OurServer());
  MixedLoad load(server.address());
  BenchRow row{.name = "memory after 100k requests, over 10k", .unit = "MB"};
  load.Run(10'000);
  row.baseline = server.ResidentBytes() / 1e6;
  load.Run(90'000);
  row.value = server.ResidentBytes() / 1e6;
  row.ratio = row.value / row.baseline;
  row.at_most = 1.05;
  report->Add(std::move(row));
}

}  // namespace

void MeasureLoads(const TransportServers& servers, BenchReport* report) {
  MeasureSmallBesideBulk(servers, report);
  MeasureOverload(report);
  MeasureMemory(report);
}

}  // namespace softloss
