#include "tests/bench/mixed_load.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <utility>

namespace softloss {
namespace {

constexpr std::int64_t kClasses = 64;
constexpr std::int64_t kRowBytes = 2 * 4 * kClasses;
constexpr std::int64_t kLargest = 1 << 20;
constexpr std::size_t kInFlight = 64;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "mixed load: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

}  // namespace

MixedLoad::MixedLoad(const std::string& address)
    : client_(OrDie(Client::Connect(address))), drawn_(DrawRows(kLargest / kRowBytes, kClasses)) {}

void MixedLoad::Run(std::int64_t items) {
  std::deque<std::future<absl::StatusOr<ScoreResult>>> under_way;
  for (std::int64_t i = 0; i < items; ++i) {
    const std::int64_t bytes = i % 20 == 19 ? kLargest : i % 5 == 4 ? 64 << 10 : 8 << 10;
    ScoreRequest request;
    request.spec.loss = Loss::kSoftmaxCrossEntropy;
    request.item.shape = {bytes / kRowBytes, kClasses};
    request.item.class_axis = -1;
    request.item.gradient = DType::kF32;
    request.prediction = drawn_.logits.data();
    request.label = drawn_.labels.data();
    if (under_way.size() == kInFlight) {
      OrDie(under_way.front().get());
      under_way.pop_front();
    }
    under_way.push_back(client_.Submit(std::move(request)));
  }
  for (; !under_way.empty(); under_way.pop_front()) OrDie(under_way.front().get());
}

}  // namespace softloss
