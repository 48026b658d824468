// The CPU workers: tasks that are handed over, and loops that are shared out.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/backend.h"

namespace softloss {

// Thread-safe.
class WorkerPool final : public Executor {
 public:
  // With 0 threads everything runs on the thread that asks for it.
  explicit WorkerPool(int threads);
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // The workers and the calling thread, which takes part.
  int concurrency() const override { return threads() + 1; }

  // May be called from a worker, and within `body`: whoever waits has first done all there was to do,
  // and waits only for bodies that are running.
  void ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) override;

  // Runs `work` on a worker, first come, first served. With no threads, or after Shutdown, runs it
  // here: it is never lost.
  void Submit(std::function<void()> work);

  // True if a worker was waiting and takes `work`; otherwise nothing happens.
  bool SubmitIfIdle(std::function<void()> work);

  // Runs what is queued, then stops the workers. Idempotent; not from a worker.
  void Shutdown();

  int threads() const { return thread_count_; }
  std::size_t queued() const;  // submitted and not begun

 private:
  // A ParallelFor in progress; lives on its caller's stack.
  struct Loop {
    const std::int64_t n;
    const absl::FunctionRef<void(std::int64_t)> body;
    std::atomic<std::int64_t> next{0};
    int helpers = 0;  // workers inside; guarded by mutex_
    std::condition_variable left{};

    void Run();
  };

  void Work();
  Loop* OpenLoop();  // one with indices left, or null

  const int thread_count_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_, as all below
  std::list<Loop*> loops_;
  int waiting_ = 0;  // workers in wake_.wait
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace softloss
