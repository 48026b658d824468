#include <time.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "kernels/backends.h"
#include "kernels/engine.h"
#include "tests/bench/drawn_rows.h"
#include "tests/bench/transport_rows.h"

namespace softloss {
namespace {

double ProcessCpuSeconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

// The arithmetic alone: a server's chunks, scored one after the other in this process, in as much memory
// as the server has in flight.
class KernelAlone {
 public:
  KernelAlone() : backend_(MakeCpuBackend()) {
    spec_.loss = Loss::kSoftmaxCrossEntropy;
    shape_.class_axis = -1;
    shape_.gradient = DType::kF32;
  }

  // CPU seconds that `items` items took.
  double Run(const Workload& workload, std::int64_t items) {
    const std::int64_t chunk = std::min(workload.item_bytes, Workload::kMaxChunkBytes);
    const std::int64_t chunks = items * (workload.item_bytes / chunk);
    const std::size_t in_flight = workload.in_flight * (workload.item_bytes / chunk);
    const std::int64_t rows = chunk / (2 * 4 * Workload::kClasses);
    if (tensors_.size() != in_flight || tensors_[0].rows != rows) {
      tensors_.assign(in_flight, DrawRows(rows, Workload::kClasses));
      gradients_.assign(in_flight, std::vector<float>(rows * Workload::kClasses));
      shape_.shape = {rows, Workload::kClasses};
    }
    InlineExecutor executor;
    const double start = ProcessCpuSeconds();
    for (std::int64_t i = 0; i < chunks; ++i) {
      const DrawnRows& t = tensors_[i % in_flight];
      const auto totals = ScoreItem(*backend_, executor, spec_, shape_,
                                    {.prediction = t.logits.data(), .label = t.labels.data()},
                                    {.gradient = gradients_[i % in_flight].data()});
      if (!totals.ok()) std::abort();
    }
    return ProcessCpuSeconds() - start;
  }

 private:
  std::unique_ptr<Backend> backend_;
  LossSpec spec_;
  ItemShape shape_;
  std::vector<DrawnRows> tensors_;
  std::vector<std::vector<float>> gradients_;
};

constexpr struct {
  const char* name;
  Workload workload;
} kCases[] = {
    {"server CPU, 64 KiB, over raw + kernel", {64 << 10, 32}},
    {"server CPU, 512 KiB, over raw + kernel", {512 << 10, 8}},
    {"server CPU, 2 MiB, over raw + kernel", {2 << 20, 4}},
    {"server CPU, 8 MiB, over raw + kernel", {8 << 20, 2}},
};

}  // namespace

void MeasureCpu(const TransportServers& servers, BenchReport* report) {
  KernelAlone kernel;
  for (const auto& c : kCases) {
    const std::int64_t items = kBytesARun / c.workload.item_bytes;
    const double gigabytes = static_cast<double>(items * c.workload.item_bytes) / 1e9;
    const auto server_seconds = [&](const ServerProcess& server, StreamDriver& stream) {
      const double before = server.CpuSeconds();
      stream.Run(c.workload, items);
      return server.CpuSeconds() - before;
    };
    BenchRow row = MeasurePairs(
        c.name, "CPU s/GB",
        [&] { return server_seconds(servers.ours, servers.our_stream) / gigabytes; },
        [&] {
          return (server_seconds(servers.raw, servers.raw_stream) + kernel.Run(c.workload, items)) /
                 gigabytes;
        },
        kFewPairs);
    row.at_most = 1.10;
    row.aim = 1.00;
    report->Add(std::move(row));
  }
}

}  // namespace softloss
