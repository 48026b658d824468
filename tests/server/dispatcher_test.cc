#include "server/dispatcher.h"

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_device.h"

namespace softloss {
namespace {

// What became of one task.
class Result {
 public:
  void Set(absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(status_.has_value()) << "done twice";
    status_ = std::move(status);
    thread_ = std::this_thread::get_id();
    set_.notify_all();
  }
  absl::Status Await() {
    std::unique_lock<std::mutex> lock(mutex_);
    set_.wait(lock, [&] { return status_.has_value(); });
    return *status_;
  }
  bool is_set() {
    std::lock_guard<std::mutex> lock(mutex_);
    return status_.has_value();
  }
  std::thread::id thread() {
    std::lock_guard<std::mutex> lock(mutex_);
    return thread_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable set_;
  std::optional<absl::Status> status_;
  std::thread::id thread_;
};

// One f32 element of sigmoid cross entropy.
class OneElement final : public ScoreTask {
 public:
  OneElement(const Clock& clock, std::int64_t size, Result* result) : result_(result) {
    key.gradient = DType::kF32;
    bytes = size;
    arrived = clock.Now();
    segment.spec = &spec_;
    segment.rows = 1;
    segment.prediction = absl::MakeConstSpan(&prediction_, 1);
    segment.label = absl::MakeConstSpan(&label_, 1);
    segment.gradient = absl::MakeConstSpan(&gradient_out_, 1);
    segment.leaves = absl::MakeSpan(&leaf_, 1);
  }
  void Done() override {
    if (status.ok() && segment.rows > 0) {
      EXPECT_EQ(gradient_, 0.5f - 1);  // x = 0, t = 1
    }
    result_->Set(status);
  }

 private:
  Result* const result_;
  const LossSpec spec_;
  const float x_ = 0;
  const float t_ = 1;
  float gradient_ = 99;
  LeafSum leaf_;
  const Fragment prediction_{reinterpret_cast<const std::byte*>(&x_), 4};
  const Fragment label_{reinterpret_cast<const std::byte*>(&t_), 4};
  const MutableFragment gradient_out_{reinterpret_cast<std::byte*>(&gradient_), 4};
};

class DispatcherTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t kSpill = 1 << 20;

  std::unique_ptr<OneElement> Task(Result* result, std::int64_t bytes = 10) {
    return std::make_unique<OneElement>(clock_, bytes, result);
  }
  // What an I/O thread does.
  static void RunAll(Dispatcher& dispatcher, std::unique_ptr<ScoreTask> task) {
    dispatcher.Run(std::move(task));
    while (dispatcher.waiting()) dispatcher.ScoreNext();
  }

  FakeClock clock_;
  FakeDevice backend_;
  WorkerPool workers_{1};
};

TEST_F(DispatcherTest, SmallTasksAreScoredWhereTheyArrive) {
  Dispatcher dispatcher(&backend_, &workers_, nullptr, &clock_, kSpill);
  Result result;
  dispatcher.Run(Task(&result, Dispatcher::kBulkBytes - 1));
  ASSERT_TRUE(result.is_set());
  EXPECT_TRUE(result.Await().ok());
  EXPECT_EQ(result.thread(), std::this_thread::get_id());
}

TEST_F(DispatcherTest, LargeTasksSpillToAnIdleWorkerAndStayWithoutOne) {
  Dispatcher dispatcher(&backend_, &workers_, nullptr, &clock_, kSpill);
  // A worker that has just been started may not be waiting yet.
  for (;;) {
    Result result;
    RunAll(dispatcher, Task(&result, kSpill));
    ASSERT_TRUE(result.Await().ok());
    if (result.thread() != std::this_thread::get_id()) break;
  }
  // While the worker is held, the next large task is scored here.
  backend_.ShutGate();
  Result held;
  for (;;) {
    ASSERT_FALSE(held.is_set());
    if (workers_.SubmitIfIdle([&] { RunAll(dispatcher, Task(&held)); })) break;
  }
  backend_.AwaitHeldCall();
  EXPECT_FALSE(workers_.SubmitIfIdle([] {}));
  backend_.OpenGate();
  ASSERT_TRUE(held.Await().ok());

  WorkerPool none(0);
  Dispatcher alone(&backend_, &none, nullptr, &clock_, kSpill);
  Result here;
  RunAll(alone, Task(&here, kSpill));
  EXPECT_EQ(here.thread(), std::this_thread::get_id());
}

TEST_F(DispatcherTest, BulkWaitsForWhatElseArrivesAndThenForItsTurn) {
  WorkerPool none(0);
  Dispatcher dispatcher(&backend_, &none, nullptr, &clock_, kSpill);
  const char tenants[2] = {}, flows[3] = {};
  Result bulk[4], small, other;
  const auto run = [&](Result* result, std::int64_t bytes, int tenant, int flow) {
    auto task = Task(result, bytes);
    task->tenant = &tenants[tenant];
    task->flow = &flows[flow];
    dispatcher.Run(std::move(task));
  };
  for (Result& b : bulk) run(&b, Dispatcher::kBulkBytes, 0, 0);
  clock_.Advance(std::chrono::milliseconds(3));
  run(&small, 10, 0, 1);
  run(&other, 10, 1, 2);
  // Small, but not before those that wait: whose turn it is decides.
  EXPECT_FALSE(small.is_set());
  EXPECT_FALSE(other.is_set());
  EXPECT_TRUE(dispatcher.waiting());
  EXPECT_EQ(dispatcher.queued_items(), 6);
  EXPECT_EQ(dispatcher.queued_bytes(), 4 * Dispatcher::kBulkBytes + 20);
  EXPECT_EQ(dispatcher.oldest_age(), std::chrono::milliseconds(3));
  for (int i = 0; i < 3; ++i) dispatcher.ScoreNext();
  // A newcomer of the same tenant and another tenant each waited for one item of bulk at most.
  EXPECT_TRUE(small.is_set());
  EXPECT_TRUE(other.is_set());
  EXPECT_TRUE(bulk[0].is_set());
  EXPECT_FALSE(bulk[1].is_set());
  while (dispatcher.waiting()) dispatcher.ScoreNext();
  EXPECT_TRUE(bulk[3].is_set());
  EXPECT_EQ(dispatcher.queued_bytes(), 0);
  EXPECT_EQ(dispatcher.oldest_age(), Duration(0));
  dispatcher.ScoreNext();  // nothing waits
}

// What only shared memory can hold never keeps the calling thread from its other clients.
TEST_F(DispatcherTest, TasksLargerThanMessagesWaitForAWorker) {
  Dispatcher dispatcher(&backend_, &workers_, nullptr, &clock_, kSpill);
  backend_.ShutGate();
  Result first, second;
  dispatcher.Run(Task(&first, Dispatcher::kLargeBytes));
  dispatcher.Run(Task(&second, Dispatcher::kLargeBytes));
  EXPECT_FALSE(first.is_set());
  EXPECT_FALSE(second.is_set());
  backend_.OpenGate();
  EXPECT_TRUE(first.Await().ok());
  EXPECT_TRUE(second.Await().ok());
  EXPECT_NE(first.thread(), std::this_thread::get_id());
  EXPECT_NE(second.thread(), std::this_thread::get_id());
}

TEST_F(DispatcherTest, CancelledAndExpiredTasksAreNeverComputed) {
  Dispatcher dispatcher(&backend_, &workers_, nullptr, &clock_, kSpill);
  Result cancelled;
  auto task = Task(&cancelled);
  task->cancelled = true;
  dispatcher.Run(std::move(task));
  EXPECT_EQ(cancelled.Await().code(), absl::StatusCode::kCancelled);

  Result expired;
  task = Task(&expired);
  task->deadline = clock_.Now();
  dispatcher.Run(std::move(task));
  EXPECT_EQ(expired.Await().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(backend_.calls().empty());

  Result in_time;
  task = Task(&in_time);
  task->deadline = clock_.Now() + std::chrono::nanoseconds(1);
  dispatcher.Run(std::move(task));
  EXPECT_TRUE(in_time.Await().ok());
  EXPECT_EQ(backend_.calls().size(), 1u);
}

TEST_F(DispatcherTest, DevicesGetTheirTasksThroughTheLane) {
  Lanes lanes;
  lanes.Add(
      std::make_unique<Batcher>(Batcher::Options(), &backend_, &workers_, &clock_, clock_.wait()));
  Dispatcher dispatcher(&backend_, &workers_, &lanes, &clock_, kSpill);
  backend_.ShutGate();
  Result first;
  dispatcher.Run(Task(&first));
  backend_.AwaitHeldCall();
  // While the device is busy, these gather into one batch.
  Result second;
  Result third;
  dispatcher.Run(Task(&second));
  dispatcher.Run(Task(&third));
  EXPECT_FALSE(first.is_set());
  backend_.OpenGate();
  EXPECT_TRUE(first.Await().ok());
  EXPECT_TRUE(second.Await().ok());
  EXPECT_TRUE(third.Await().ok());
  ASSERT_EQ(backend_.calls().size(), 2u);
  EXPECT_EQ(backend_.calls()[1].rows.size(), 2u);
}

TEST_F(DispatcherTest, SeveralDevicesShareTheTasksAndOneThatFailedGetsNone) {
  FakeDevice other;
  Lanes lanes;
  for (FakeDevice* device : {&backend_, &other}) {
    lanes.Add(
        std::make_unique<Batcher>(Batcher::Options(), device, &workers_, &clock_, clock_.wait()));
  }
  Dispatcher dispatcher(&backend_, &workers_, &lanes, &clock_, kSpill);
  backend_.ShutGate();
  other.ShutGate();
  Result large, small[3];
  dispatcher.Run(Task(&large, 1000));
  backend_.AwaitHeldCall();
  // The other one has less to do until it has as much.
  dispatcher.Run(Task(&small[0], 10));
  other.AwaitHeldCall();
  dispatcher.Run(Task(&small[1], 990));
  dispatcher.Run(Task(&small[2], 10));
  EXPECT_EQ(lanes.queued_items(), 2);
  EXPECT_EQ(lanes.queued_bytes(), 1000);
  backend_.OpenGate();
  other.OpenGate();
  for (Result* result : {&large, &small[0], &small[1], &small[2]}) {
    EXPECT_TRUE(result->Await().ok());
  }
  EXPECT_EQ(backend_.calls().size() + other.calls().size(), 4u);
  EXPECT_EQ(lanes.healthy(), 2);

  backend_.FailNext(absl::InternalError("the device is gone"));
  Result failed;
  dispatcher.Run(Task(&failed));
  EXPECT_EQ(failed.Await().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(lanes.healthy(), 1);
  for (int i = 0; i < 3; ++i) {
    Result after;
    dispatcher.Run(Task(&after));
    EXPECT_TRUE(after.Await().ok());
  }
  other.FailNext(absl::InternalError("this one too"));
  for (int i = 0; i < 2; ++i) {
    Result after;
    dispatcher.Run(Task(&after));
    EXPECT_EQ(after.Await().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(lanes.healthy(), 0);
}

TEST_F(DispatcherTest, TheEndOfAnEmptyItemNeedsNoBackend) {
  Dispatcher dispatcher(&backend_, &workers_, nullptr, &clock_, kSpill);
  Result result;
  auto task = Task(&result);
  task->segment.rows = 0;
  dispatcher.Run(std::move(task));
  EXPECT_TRUE(result.Await().ok());
  EXPECT_TRUE(backend_.calls().empty());
}

}  // namespace
}  // namespace softloss
