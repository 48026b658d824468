#include "server/worker_pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace softloss {
namespace {

// Opens once; whoever waits goes on.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

class WorkerPoolThreads : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, WorkerPoolThreads, testing::Values(0, 1, 2, 5));

TEST_P(WorkerPoolThreads, ParallelForRunsEveryIndexOnce) {
  WorkerPool pool(GetParam());
  EXPECT_EQ(pool.concurrency(), GetParam() + 1);
  for (std::int64_t n : {0, 1, 2, 3, 1000}) {
    std::vector<std::atomic<int>> runs(n);
    pool.ParallelFor(n, [&](std::int64_t i) { ++runs[i]; });
    for (std::int64_t i = 0; i < n; ++i) EXPECT_EQ(runs[i], 1) << i << " of " << n;
  }
}

TEST_P(WorkerPoolThreads, LoopsNest) {
  WorkerPool pool(GetParam());
  std::atomic<int> runs{0};
  pool.ParallelFor(10, [&](std::int64_t) {
    pool.ParallelFor(10, [&](std::int64_t) { pool.ParallelFor(3, [&](std::int64_t) { ++runs; }); });
  });
  EXPECT_EQ(runs, 300);
}

TEST_P(WorkerPoolThreads, LoopsFromWorkersAndOutsideTogether) {
  WorkerPool pool(GetParam());
  std::atomic<int> runs{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        pool.Submit([&] { pool.ParallelFor(4, [&](std::int64_t) { ++runs; }); });
        pool.ParallelFor(4, [&](std::int64_t) { ++runs; });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  pool.Shutdown();
  EXPECT_EQ(runs, 3 * 50 * 8);
}

TEST_P(WorkerPoolThreads, ShutdownRunsWhatIsQueuedAndLosesNothingAfterwards) {
  std::atomic<int> runs{0};
  WorkerPool pool(GetParam());
  for (int i = 0; i < 100; ++i) pool.Submit([&] { ++runs; });
  pool.Shutdown();
  EXPECT_EQ(runs, 100);
  pool.Submit([&] { ++runs; });
  EXPECT_EQ(runs, 101);
  EXPECT_FALSE(pool.SubmitIfIdle([&] { ++runs; }));
  pool.ParallelFor(3, [&](std::int64_t) { ++runs; });
  EXPECT_EQ(runs, 104);
  pool.Shutdown();
}

TEST(WorkerPool, SharesALoopWithAllWorkers) {
  WorkerPool pool(2);
  // Ends only if three threads are inside at once.
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  pool.ParallelFor(3, [&](std::int64_t) {
    std::unique_lock lock(mutex);
    ++inside;
    changed.notify_all();
    changed.wait(lock, [&] { return inside == 3; });
  });
  EXPECT_EQ(inside, 3);
}

TEST(WorkerPool, ABusyPoolDoesNotHoldALoopUp) {
  WorkerPool pool(2);
  Gate gate;
  for (int i = 0; i < 4; ++i) pool.Submit([&] { gate.Wait(); });
  int sum = 0;
  std::mutex mutex;
  pool.ParallelFor(10, [&](std::int64_t i) {
    std::lock_guard lock(mutex);
    sum += static_cast<int>(i);
  });
  EXPECT_EQ(sum, 45);
  gate.Open();
}

TEST(WorkerPool, SubmitIfIdleNeedsAWaitingWorker) {
  EXPECT_FALSE(WorkerPool(0).SubmitIfIdle([] {}));

  WorkerPool pool(1);
  Gate busy, release, ran;
  pool.Submit([&] {
    busy.Open();
    release.Wait();
  });
  busy.Wait();
  EXPECT_FALSE(pool.SubmitIfIdle([] { ADD_FAILURE() << "nobody was idle"; }));
  pool.Submit([&] {});
  EXPECT_EQ(pool.queued(), 1u);
  release.Open();
  // The worker comes to wait; only then is it idle.
  while (!pool.SubmitIfIdle([&] { ran.Open(); })) std::this_thread::yield();
  ran.Wait();
}

TEST(WorkerPool, WorkIsFirstComeFirstServed) {
  std::vector<int> order;
  {
    WorkerPool pool(1);
    Gate gate;
    pool.Submit([&] { gate.Wait(); });
    for (int i = 0; i < 20; ++i) pool.Submit([&order, i] { order.push_back(i); });
    gate.Open();
  }
  std::vector<int> expected(20);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(WorkerPool, WhatWorkHeldIsDestroyedWhenItIsDone) {
  WorkerPool pool(1);
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  Gate done;
  pool.Submit([held = std::move(held)] {});
  pool.Submit([&] { done.Open(); });
  done.Wait();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace softloss
