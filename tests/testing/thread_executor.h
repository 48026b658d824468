// An executor that really runs on several threads, in an order that nobody controls.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "kernels/backend.h"

namespace softloss::testing {

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(int threads) : threads_(threads) {}

  int concurrency() const override { return threads_; }
  void ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) override {
    std::atomic<std::int64_t> next{0};
    const auto work = [&] {
      for (std::int64_t i; (i = next.fetch_add(1)) < n;) body(i);
    };
    std::vector<std::thread> threads;
    for (int t = 1; t < threads_; ++t) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  const int threads_;
};

}  // namespace softloss::testing
