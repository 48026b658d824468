#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "softloss/client.h"
#include "tests/bench/drawn_rows.h"
#include "tests/bench/line_program.h"
#include "tests/bench/shared_driver.h"
#include "tests/bench/transport_rows.h"

namespace softloss {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "transport_bench: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

// The C++ client with its default options, used as python_client_load.py uses Python's.
class CppClientLoad {
 public:
  explicit CppClientLoad(const std::string& address) : client_(OrDie(Client::Connect(address))) {}

  double Run(const Workload& workload, std::int64_t items) {
    const std::int64_t rows = workload.item_bytes / (2 * 4 * Workload::kClasses);
    if (drawn_.rows != rows) drawn_ = DrawRows(rows, Workload::kClasses);
    ScoreRequest request;
    request.spec.loss = Loss::kSoftmaxCrossEntropy;
    request.item.shape = {rows, Workload::kClasses};
    request.item.class_axis = -1;
    request.item.gradient = DType::kF32;
    request.prediction = drawn_.logits.data();
    request.label = drawn_.labels.data();
    std::deque<std::future<absl::StatusOr<ScoreResult>>> under_way;
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < items; ++i) {
      if (static_cast<int>(under_way.size()) == workload.in_flight) {
        OrDie(under_way.front().get());
        under_way.pop_front();
      }
      under_way.push_back(client_.Submit(request));
    }
    for (; !under_way.empty(); under_way.pop_front()) OrDie(under_way.front().get());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  Client client_;
  DrawnRows drawn_;
};

void MeasurePython(const TransportServers& servers, BenchReport* report) {
  const char* const python = std::getenv("SOFTLOSS_PYTHON");
  LineProgram by_python({python != nullptr ? python : SOFTLOSS_SOURCE_DIR "/.venv/bin/python",
                         SOFTLOSS_SOURCE_DIR "/tests/bench/python_client_load.py",
                         servers.ours.address()});
  CppClientLoad by_cpp(servers.ours.address());
  const struct {
    const char* name;
    Workload workload;
  } cases[] = {{"Python client, 512 KiB, over C++", {512 << 10, 8}},
               {"Python client, 2 MiB, over C++", {2 << 20, 4}},
               {"Python client, 8 MiB, over C++", {8 << 20, 2}}};
  for (const auto& c : cases) {
    const std::int64_t items = kBytesARun / c.workload.item_bytes;
    const double gigabytes = static_cast<double>(items * c.workload.item_bytes) / 1e9;
    const std::string line =
        absl::StrCat(c.workload.item_bytes, " ", c.workload.in_flight, " ", items);
    BenchRow row = MeasurePairs(
        c.name, "GB/s", [&] { return gigabytes / std::stod(by_python.Ask(line)); },
        [&] { return gigabytes / by_cpp.Run(c.workload, items); }, kFewPairs);
    row.at_least = 0.85;
    row.aim = 0.95;
    report->Add(std::move(row));
  }
}

// Tensors that do not travel, against ones that are only moved, and against no server at all. The
// engine has as many threads as the server.
void MeasureSharedMemory(const TransportServers& servers, const std::string& with_memory,
                         BenchReport* report) {
  constexpr Workload kWorkload{2 << 20, 4};
  constexpr std::int64_t kItems = kBytesARun / kWorkload.item_bytes;
  constexpr double kGigabytes = static_cast<double>(kItems) * kWorkload.item_bytes / 1e9;
  constexpr int kThreads = 2;
  SharedDriver shared(with_memory, kWorkload);
  const auto by_server = [&] { return kGigabytes / shared.RunServer(kItems); };
  BenchRow row = MeasurePairs("2 MiB by shared memory, over raw f32", "GB/s", by_server, [&] {
    return kGigabytes / servers.raw_stream.Run(kWorkload, kItems);
  });
  row.at_least = 3;
  row.aim = 5;
  report->Add(std::move(row));
  row = MeasurePairs("2 MiB by shared memory, over in process", "GB/s", by_server,
                     [&] { return kGigabytes / shared.RunEngine(kItems, kThreads); });
  row.at_least = 0.80;
  row.aim = 0.95;
  report->Add(std::move(row));
}

}  // namespace

void MeasureClients(const TransportServers& servers, const std::string& with_memory,
                    BenchReport* report) {
  MeasurePython(servers, report);
  MeasureSharedMemory(servers, with_memory, report);
}

}  // namespace softloss
