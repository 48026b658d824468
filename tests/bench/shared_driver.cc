#include "tests/bench/shared_driver.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <random>
#include <utility>

#include "kernels/backends.h"
#include "kernels/engine.h"

namespace softloss {
namespace {

[[noreturn]] void Die(const absl::Status& why) {
  std::fprintf(stderr, "shared driver: %s\n", why.ToString().c_str());
  std::exit(1);
}

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

// Normal logits, and labels that sum to one.
void Fill(std::int64_t rows, float* logits, float* labels) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (std::int64_t row = 0; row < rows; ++row) {
    float sum = 0;
    for (std::int64_t c = 0; c < Workload::kClasses; ++c) {
      *logits++ = 2 * normal(random);
      labels[c] = std::exp(normal(random));
      sum += labels[c];
    }
    for (std::int64_t c = 0; c < Workload::kClasses; ++c) *labels++ /= sum;
  }
}

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

SharedDriver::SharedDriver(const std::string& address, const Workload& workload)
    : client_(std::make_unique<Client>(OrDie(Client::Connect(address)))),
      backend_(OrDie(MakeBackend("cpu"))) {
  const std::int64_t tensor = workload.item_bytes / 2;
  const std::int64_t rows = tensor / Workload::kClasses / static_cast<std::int64_t>(sizeof(float));
  for (int i = 0; i < workload.in_flight; ++i) {
    SharedMemory memory = OrDie(client_->Allocate(3 * tensor));
    if (!memory.status().ok()) Die(memory.status());
    std::byte* const at = memory.span().data();
    ScoreRequest request;
    request.spec.loss = Loss::kSoftmaxCrossEntropy;
    request.item.shape = {rows, Workload::kClasses};
    request.item.class_axis = -1;
    request.item.gradient = DType::kF32;
    request.prediction = at;
    request.label = at + tensor;
    request.gradient = at + 2 * tensor;
    Fill(rows, reinterpret_cast<float*>(at), reinterpret_cast<float*>(at + tensor));
    memory_.push_back(std::move(memory));
    requests_.push_back(std::move(request));
  }
}

double SharedDriver::RunServer(std::int64_t items) {
  const auto start = std::chrono::steady_clock::now();
  std::deque<std::future<absl::StatusOr<ScoreResult>>> under_way;
  const auto finish = [&] {
    const ScoreResult result = OrDie(under_way.front().get());
    under_way.pop_front();
    if (result.transport != Transport::kSharedMemory) Die(absl::InternalError("it travelled"));
  };
  for (std::int64_t i = 0; i < items; ++i) {
    if (under_way.size() == requests_.size()) finish();
    under_way.push_back(client_->Submit(requests_[i % requests_.size()]));
  }
  while (!under_way.empty()) finish();
  return Since(start);
}

double SharedDriver::RunEngine(std::int64_t items, int threads) {
  if (workers_ == nullptr || workers_->concurrency() != threads) {
    workers_ = std::make_unique<WorkerPool>(threads - 1);
  }
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < items; ++i) {
    const ScoreRequest& r = requests_[i % requests_.size()];
    OrDie(ScoreItem(*backend_, *workers_, r.spec, r.item,
                    {.prediction = static_cast<const std::byte*>(r.prediction),
                     .label = static_cast<const std::byte*>(r.label)},
                    {.gradient = static_cast<std::byte*>(r.gradient)}));
  }
  return Since(start);
}

}  // namespace softloss
