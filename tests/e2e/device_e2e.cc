// The server on a device backend, end to end: many clients' items, through batches, against the
// long double reference; then what it moves.
//
// usage: softloss_gpu_e2e SOFTLOSSD OUTPUT.json [BACKEND]      (BACKEND: cuda unless told otherwise)
// Exits 1 if an answer is wrong or the server fails.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <future>
#include <random>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "kernels/engine.h"
#include "softloss/client.h"
#include "tests/bench/server_process.h"

namespace softloss {
namespace {

struct Item {
  ScoreRequest request;
  std::vector<float> prediction;
  std::vector<float> label;
  // From the reference.
  double loss = 0;
  std::vector<float> gradient;
};

std::vector<Item> MakeItems(int n) {
  std::mt19937 random(7);
  std::normal_distribution<float> logit(0, 4);
  std::uniform_real_distribution<float> weight(0.01f, 1);
  const std::int64_t class_counts[] = {1, 2, 10, 21, 64, 100, 1000, 5000};
  const std::unique_ptr<Backend> reference = MakeReferenceBackend();
  InlineExecutor executor;
  std::vector<Item> items(n);
  for (int i = 0; i < n; ++i) {
    Item& item = items[i];
    const std::int64_t classes = class_counts[i % 8];
    const std::int64_t outer = 1 + static_cast<std::int64_t>(random() % 40);
    const std::int64_t inner = i % 3 == 0 ? 1 + static_cast<std::int64_t>(random() % 30) : 1;
    const std::int64_t rows = outer * inner;
    item.prediction.resize(rows * classes);
    item.label.resize(rows * classes);
    for (float& x : item.prediction) x = logit(random);
    for (float& t : item.label) t = weight(random);
    item.request.spec.loss = classes == 1 ? Loss::kSigmoidCrossEntropy : Loss::kSoftmaxCrossEntropy;
    item.request.item.shape = {outer, classes, inner};
    item.request.item.class_axis = 1;
    item.request.item.gradient = DType::kF32;
    item.request.prediction = item.prediction.data();
    item.request.label = item.label.data();
    item.gradient.resize(item.prediction.size());
    const absl::StatusOr<ItemTotals> totals =
        ScoreItem(*reference, executor, item.request.spec, item.request.item,
                  {.prediction = item.prediction.data(), .label = item.label.data()},
                  {.gradient = item.gradient.data()});
    item.loss = totals.value().loss;
  }
  return items;
}

// "" if the answer is within the bounds of the contract: labels here are ≥ 0, so a row's loss terms
// add up without cancelling, and the gradient's error scale is at most the row's Σ t ≤ C.
std::string Wrong(const Item& item, const absl::StatusOr<ScoreResult>& result) {
  if (!result.ok()) return result.status().ToString();
  if (!(std::abs(result->loss - item.loss) <= 1e-6 * std::abs(item.loss))) {
    return "loss is " + std::to_string(result->loss) + ", not " + std::to_string(item.loss);
  }
  std::vector<float> gradient(item.gradient.size());
  if (result->gradient.size() != gradient.size() * sizeof(float)) return "gradient is missing";
  std::memcpy(gradient.data(), result->gradient.data(), result->gradient.size());
  const double scale = static_cast<double>(item.request.item.shape[1]);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    if (!(std::abs(gradient[i] - item.gradient[i]) <= 5e-7 * std::max(2.0, scale))) {
      return "gradient[" + std::to_string(i) + "] is " + std::to_string(gradient[i]) + ", not " +
             std::to_string(item.gradient[i]);
    }
  }
  return "";
}

// GB/s of prediction, label and gradient of one large item after another, several in flight.
double Throughput(const Client& client) {
  constexpr std::int64_t kRows = 8192;
  constexpr std::int64_t kClasses = 1000;
  std::vector<float> x(kRows * kClasses);
  std::vector<float> t(kRows * kClasses, 1.0f / kClasses);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  ScoreRequest request;
  request.spec.loss = Loss::kSoftmaxCrossEntropy;
  request.item = {.shape = {kRows, kClasses}, .class_axis = 1, .gradient = DType::kF32};
  request.prediction = x.data();
  request.label = t.data();
  const auto round = [&](int items) {
    std::vector<std::future<absl::StatusOr<ScoreResult>>> pending;
    for (int i = 0; i < items; ++i) pending.push_back(client.Submit(request));
    for (auto& p : pending) p.get().value();
  };
  round(2);
  constexpr int kItems = 12;
  const auto start = std::chrono::steady_clock::now();
  round(kItems);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return 12e-9 * static_cast<double>(x.size()) * kItems / took.count();
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s SOFTLOSSD OUTPUT.json [BACKEND]\n", argv[0]);
    return 2;
  }
  PinMallocThresholds();
  const std::string backend = argc > 3 ? argv[3] : "cuda";
  ServerProcess server({argv[1], "--listen=127.0.0.1:0", "--metrics_listen=off",
                        "--backend=" + backend, "--log_level=warning"});
  ClientOptions options;
  options.channels = 2;
  absl::StatusOr<Client> client = Client::Connect(server.address(), options);
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 1;
  }
  const std::vector<Item> items = MakeItems(160);
  int wrong = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::future<absl::StatusOr<ScoreResult>>> pending;
    for (const Item& item : items) pending.push_back(client->Submit(item.request));
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string what = Wrong(items[i], pending[i].get());
      if (!what.empty() && ++wrong <= 10) std::fprintf(stderr, "item %zu: %s\n", i, what.c_str());
    }
  }
  const double speed = wrong == 0 ? Throughput(*client) : 0;
  std::printf("%s: %zu items, %d wrong; %.2f GB/s in and out, C = 1000\n",
              client->numerics_id().c_str(), 5 * items.size(), wrong, speed);
  std::ofstream(argv[2]) << "{\"numerics_id\": \"" << client->numerics_id()
                         << "\", \"items\": " << 5 * items.size() << ", \"wrong\": " << wrong
                         << ", \"gigabytes_per_second\": " << speed << "}\n";
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) { return softloss::Main(argc, argv); }
