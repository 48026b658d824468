#include "client/python/binding/thread_executor.h"

#include <algorithm>

namespace softloss::python {

ThreadExecutor::ThreadExecutor(int threads) {
  for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

ThreadExecutor::~ThreadExecutor() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadExecutor::ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) {
  if (threads_.empty() || n <= 1) {
    for (std::int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  // Shared: a worker may look at a loop once more after its last iteration is done.
  auto loop = std::make_shared<Loop>(body, n);
  {
    std::lock_guard lock(mutex_);
    loops_.push_back(loop);
  }
  wake_.notify_all();
  Run(*loop);
  std::unique_lock lock(mutex_);
  loop->done.wait(lock, [&] { return loop->finished == n; });
}

void ThreadExecutor::Run(Loop& loop) {
  std::int64_t taken = 0;
  for (std::int64_t i; (i = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.n; ++taken) {
    loop.body(i);
  }
  std::lock_guard lock(mutex_);
  std::erase_if(loops_, [&](const std::shared_ptr<Loop>& l) { return l.get() == &loop; });
  loop.finished += taken;
  if (loop.finished == loop.n) loop.done.notify_all();
}

void ThreadExecutor::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || !loops_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Loop> loop = loops_.front();
    lock.unlock();
    Run(*loop);
    lock.lock();
  }
}

}  // namespace softloss::python
