#include "server/worker_pool.h"

#include <algorithm>
#include <utility>

namespace softloss {

void WorkerPool::Loop::Run() {
  for (;;) {
    const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
    if (i >= n) return;
    body(i);
  }
}

WorkerPool::WorkerPool(int threads) : thread_count_(std::max(threads, 0)) {
  workers_.reserve(thread_count_);
  for (int i = 0; i < thread_count_; ++i) workers_.emplace_back([this] { Work(); });
}

WorkerPool::~WorkerPool() { Shutdown(); }

void WorkerPool::ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) {
  if (n <= 1 || thread_count_ == 0) {
    for (std::int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  Loop loop{.n = n, .body = body};
  std::list<Loop*>::iterator entry;
  {
    std::lock_guard lock(mutex_);
    entry = loops_.insert(loops_.end(), &loop);
    for (std::int64_t i = std::min<std::int64_t>(n - 1, waiting_); i > 0; --i) wake_.notify_one();
  }
  loop.Run();
  std::unique_lock lock(mutex_);
  loops_.erase(entry);
  loop.left.wait(lock, [&] { return loop.helpers == 0; });
}

void WorkerPool::Submit(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    if (thread_count_ > 0 && !stopping_) {
      queue_.push_back(std::move(work));
      wake_.notify_one();
      return;
    }
  }
  work();
}

bool WorkerPool::SubmitIfIdle(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  // A waiting worker may already have been woken for something that is in the queue.
  if (stopping_ || waiting_ <= static_cast<int>(queue_.size())) return false;
  queue_.push_back(std::move(work));
  wake_.notify_one();
  return true;
}

void WorkerPool::Shutdown() {
  std::vector<std::thread> workers;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    workers.swap(workers_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers) worker.join();
}

std::size_t WorkerPool::queued() const {
  std::lock_guard lock(mutex_);
  return queue_.size();
}

WorkerPool::Loop* WorkerPool::OpenLoop() {
  for (Loop* loop : loops_) {
    if (loop->next.load(std::memory_order_relaxed) < loop->n) return loop;
  }
  return nullptr;
}

void WorkerPool::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // Loops first: somebody is waiting for them already.
    if (Loop* loop = OpenLoop()) {
      ++loop->helpers;
      lock.unlock();
      loop->Run();
      lock.lock();
      // Under the lock: once the caller sees 0 the loop is gone.
      if (--loop->helpers == 0) loop->left.notify_one();
    } else if (!queue_.empty()) {
      std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
      work = nullptr;  // what it captured is destroyed outside the lock
      lock.lock();
    } else if (stopping_) {
      return;
    } else {
      ++waiting_;
      wake_.wait(lock);
      --waiting_;
    }
  }
}

}  // namespace softloss
