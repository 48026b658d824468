// Shares loops out among a few threads of this process.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/backend.h"

namespace softloss::python {

// The calling thread works too, so `threads` = 1 starts none. Thread-safe: loops of several callers
// share the threads, oldest first.
class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(int threads);
  ~ThreadExecutor() override;
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  int concurrency() const override { return static_cast<int>(threads_.size()) + 1; }
  void ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) override;

 private:
  struct Loop {
    absl::FunctionRef<void(std::int64_t)> body;
    const std::int64_t n;
    std::atomic<std::int64_t> next{0};
    std::int64_t finished = 0;  // guarded by mutex_
    std::condition_variable done;
  };

  void Work();
  // Takes iterations until none is left.
  void Run(Loop& loop);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Loop>> loops_;  // those that may still have iterations to take
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace softloss::python
