#include "server/batcher.h"

#include <array>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/loss.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_device.h"

namespace softloss {
namespace {

using std::chrono::microseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What became of the tasks.
class Outcomes {
 public:
  struct Outcome {
    absl::Status status;
    TaskTimes times;
    double loss = 0;  // of row 0, from the leaf
    int calls = 0;
  };

  explicit Outcomes(int tasks) : outcomes_(tasks) {}

  void Record(int task, const ScoreTask& t, double loss) {
    std::lock_guard lock(mutex_);
    Outcome& outcome = outcomes_[task];
    outcome.status = t.status;
    outcome.times = t.times;
    outcome.loss = loss;
    if (++outcome.calls == 1) ++done_;
    changed_.notify_all();
  }

  Outcome Await(int task) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outcomes_[task].calls > 0; });
    return outcomes_[task];
  }

  void AwaitAll() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == static_cast<int>(outcomes_.size()); });
  }

  int done() {
    std::lock_guard lock(mutex_);
    return done_;
  }

  std::vector<Outcome> all() {
    std::lock_guard lock(mutex_);
    return outcomes_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Outcome> outcomes_;
  int done_ = 0;
};

// Sigmoid cross entropy of `rows` logits, all x, against labels 0: the loss of each is ln(1 + e^x).
class TestTask final : public ScoreTask {
 public:
  TestTask(Outcomes* outcomes, int index, float x = 0, std::int64_t rows = 1)
      : outcomes_(outcomes), index_(index), x_(rows, x), t_(rows, 0) {
    key.loss = Loss::kSigmoidCrossEntropy;
    key.prediction = DType::kF32;
    key.label = {LabelKind::kDense, DType::kF32};
    prediction_ = {reinterpret_cast<const std::byte*>(x_.data()), rows * sizeof(float)};
    label_ = {reinterpret_cast<const std::byte*>(t_.data()), rows * sizeof(float)};
    leaves_.resize(CeilDiv(rows, LeafRows(1)));
    segment.spec = &spec_;
    segment.rows = rows;
    segment.prediction = {&prediction_, 1};
    segment.label = {&label_, 1};
    segment.leaves = absl::MakeSpan(leaves_);
    bytes = 8 * rows;
  }

  void Done() override { outcomes_->Record(index_, *this, leaves_[0].loss); }

 private:
  Outcomes* const outcomes_;
  const int index_;
  const LossSpec spec_;
  std::vector<float> x_, t_;
  Fragment prediction_, label_;
  std::vector<LeafSum> leaves_;
};

class BatcherTest : public testing::Test {
 protected:
  Batcher& Start(Batcher::Options options = {}) {
    return batcher_.emplace(
        options, &device_, &executor_, &clock_, clock_.wait(),
        Batcher::Observer{
            .batch_closed =
                [this](CloseReason reason, std::int64_t items, std::int64_t) {
                  closed_.emplace_back(Name(reason));
                  closed_items_.push_back(items);
                },
            .backend_failed = [this](const absl::Status& status) { failures_.push_back(status); }});
  }

  // The thread is then inside a call, and holds `task`.
  void HoldTheDevice(Batcher& batcher, Outcomes& outcomes, int task) {
    device_.ShutGate();
    batcher.Submit(std::make_unique<TestTask>(&outcomes, task));
    device_.AwaitHeldCall();
  }

  std::vector<std::size_t> CallSizes() {
    std::vector<std::size_t> sizes;
    for (const FakeDevice::Call& call : device_.calls()) sizes.push_back(call.rows.size());
    return sizes;
  }

  FakeDevice device_;
  InlineExecutor executor_;
  FakeClock clock_;
  std::vector<std::string> closed_;
  std::vector<std::int64_t> closed_items_;
  std::vector<absl::Status> failures_;
  std::optional<Batcher> batcher_;  // last: its thread uses the rest
};

TEST_F(BatcherTest, ScoresWhatIsSubmitted) {
  Outcomes outcomes(1);
  Start().Submit(std::make_unique<TestTask>(&outcomes, 0, 20.0f));
  const auto outcome = outcomes.Await(0);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NEAR(outcome.loss, std::log1p(std::exp(20.0)), 1e-6 * 20);
}

TEST_F(BatcherTest, WhatArrivesDuringACallGoesTogetherInTheNext) {
  constexpr int kTasks = 6;
  Outcomes outcomes(kTasks);
  Batcher& batcher = Start();
  HoldTheDevice(batcher, outcomes, 0);
  for (int i = 1; i < kTasks; ++i) {
    batcher.Submit(std::make_unique<TestTask>(&outcomes, i, static_cast<float>(i)));
  }
  EXPECT_EQ(batcher.queued_items(), kTasks - 1);
  EXPECT_EQ(batcher.queued_bytes(), (kTasks - 1) * 8);
  clock_.Advance(microseconds(7));
  EXPECT_EQ(batcher.oldest_age(), microseconds(7));
  device_.OpenGate();
  outcomes.AwaitAll();
  batcher.Shutdown();
  EXPECT_THAT(CallSizes(), ElementsAre(1u, 5u));
  EXPECT_THAT(closed_, ElementsAre("idle", "idle"));
  EXPECT_THAT(closed_items_, ElementsAre(1, 5));
  for (int i = 1; i < kTasks; ++i) {
    const auto outcome = outcomes.Await(i);
    EXPECT_EQ(outcome.times.queue_ns, 7000u);
    EXPECT_NEAR(outcome.loss, std::log1p(std::exp(i)), 1e-6 * i) << i;
  }
  EXPECT_EQ(outcomes.Await(0).times.compute_ns, 7000u);
  EXPECT_EQ(batcher.oldest_age(), Duration::zero());
}

TEST_F(BatcherTest, AHeldLaneWaitsForTheAgeLimit) {
  Outcomes outcomes(2);
  Batcher& batcher = Start({.queue = {.max_age = microseconds(100)}, .close_when_idle = false});
  clock_.AwaitWaiter(std::nullopt);
  const TimePoint start = clock_.Now();
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 0));
  clock_.AwaitWaiter(start + microseconds(100));
  clock_.Advance(microseconds(60));
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 1));
  clock_.AwaitWaiter(start + microseconds(100));
  EXPECT_EQ(outcomes.done(), 0);
  clock_.Advance(microseconds(40));
  outcomes.AwaitAll();
  batcher.Shutdown();
  EXPECT_THAT(closed_, ElementsAre("age"));
  EXPECT_EQ(outcomes.Await(0).times.queue_ns, 100'000u);
  EXPECT_EQ(outcomes.Await(1).times.queue_ns, 40'000u);
}

TEST_F(BatcherTest, AHeldLaneClosesWhenFull) {
  Outcomes outcomes(3);
  Batcher& batcher = Start({.queue = {.max_batch_bytes = 24, .max_age = std::chrono::hours(1)},
                            .close_when_idle = false});
  for (int i = 0; i < 3; ++i) batcher.Submit(std::make_unique<TestTask>(&outcomes, i));
  outcomes.AwaitAll();
  batcher.Shutdown();
  EXPECT_THAT(closed_, ElementsAre("full"));
}

TEST_F(BatcherTest, ExpiredAndCancelledTasksAreAnsweredAndNeverComputed) {
  Outcomes outcomes(4);
  Batcher& batcher = Start();
  HoldTheDevice(batcher, outcomes, 0);
  auto expiring = std::make_unique<TestTask>(&outcomes, 1);
  expiring->deadline = clock_.Now() + microseconds(5);
  auto cancelled = std::make_unique<TestTask>(&outcomes, 2);
  TestTask* to_cancel = cancelled.get();
  batcher.Submit(std::move(expiring));
  batcher.Submit(std::move(cancelled));
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 3));
  to_cancel->cancelled = true;
  clock_.Advance(microseconds(5));
  device_.OpenGate();
  outcomes.AwaitAll();
  EXPECT_EQ(outcomes.Await(1).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(outcomes.Await(2).status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(outcomes.Await(3).status.ok());
  EXPECT_THAT(CallSizes(), ElementsAre(1u, 1u));
}

TEST_F(BatcherTest, ATaskExpiresWithoutAnythingElseHappening) {
  Outcomes outcomes(1);
  Batcher& batcher =
      Start({.queue = {.max_age = std::chrono::hours(1), .deadline_margin = microseconds(0)},
             .close_when_idle = false});
  auto task = std::make_unique<TestTask>(&outcomes, 0);
  task->deadline = clock_.Now() + microseconds(5);
  const TimePoint deadline = task->deadline;
  batcher.Submit(std::move(task));
  clock_.AwaitWaiter(deadline);
  clock_.Advance(microseconds(5));
  EXPECT_EQ(outcomes.Await(0).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(device_.calls().empty());
}

TEST_F(BatcherTest, OutOfMemoryHalvesTheBatch) {
  constexpr int kTasks = 6;  // besides the one that holds the device
  Outcomes outcomes(kTasks + 1);
  Batcher& batcher = Start();
  HoldTheDevice(batcher, outcomes, 0);
  device_.SetMaxRows(2);
  for (int i = 1; i <= kTasks; ++i) {
    // The fourth alone is too large.
    batcher.Submit(std::make_unique<TestTask>(&outcomes, i, static_cast<float>(i), i == 4 ? 3 : 1));
  }
  device_.OpenGate();
  outcomes.AwaitAll();
  batcher.Shutdown();
  for (int i = 1; i <= kTasks; ++i) {
    const auto outcome = outcomes.Await(i);
    EXPECT_EQ(outcome.calls, 1);
    if (i == 4) {
      EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_THAT(outcome.status.message(), HasSubstr("at most 2 rows; was 3"));
    } else {
      EXPECT_TRUE(outcome.status.ok()) << outcome.status;
      EXPECT_NEAR(outcome.loss, std::log1p(std::exp(i)), 1e-6 * i) << i;
    }
  }
  // 6 → 3 (fails) → 1, 2; 3 (5 rows, fails) → 1 (3 rows, fails), 2.
  EXPECT_THAT(CallSizes(), ElementsAre(1u, 6u, 3u, 1u, 2u, 3u, 1u, 2u));
  EXPECT_TRUE(batcher.healthy());
  EXPECT_EQ(failures_.size(), 4u);
}

TEST_F(BatcherTest, AFailedBackendIsLeftAlone) {
  Outcomes outcomes(5);
  Batcher& batcher = Start();
  HoldTheDevice(batcher, outcomes, 0);
  device_.FailNext(absl::InternalError("illegal address"));
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 1));
  auto other_key = std::make_unique<TestTask>(&outcomes, 2);
  other_key->key.classes = 2;
  batcher.Submit(std::move(other_key));
  EXPECT_TRUE(batcher.healthy());
  device_.OpenGate();
  for (int i = 0; i < 3; ++i) {
    const auto outcome = outcomes.Await(i);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable) << i;
    EXPECT_THAT(outcome.status.message(), HasSubstr("backend fake failed"));
  }
  EXPECT_FALSE(batcher.healthy());
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 3));
  EXPECT_EQ(outcomes.Await(3).status.code(), absl::StatusCode::kUnavailable);
  batcher.Shutdown();
  EXPECT_EQ(device_.calls().size(), 1u);
  EXPECT_THAT(failures_, ElementsAre(absl::InternalError("illegal address")));
}

TEST_F(BatcherTest, AFullQueueRefusesAtOnce) {
  Outcomes outcomes(3);
  Batcher& batcher = Start({.queue = {.max_queue_bytes = 8}});
  HoldTheDevice(batcher, outcomes, 0);
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 1));
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 2));
  EXPECT_EQ(outcomes.Await(2).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(outcomes.done(), 1);
  device_.OpenGate();
  EXPECT_TRUE(outcomes.Await(1).status.ok());
}

TEST_F(BatcherTest, ShutdownComputesWhatIsQueuedAndRefusesTheRest) {
  Outcomes outcomes(5);
  Batcher& batcher = Start({.queue = {.max_age = std::chrono::hours(1)}, .close_when_idle = false});
  for (int i = 0; i < 4; ++i) batcher.Submit(std::make_unique<TestTask>(&outcomes, i));
  batcher.Shutdown();
  EXPECT_EQ(outcomes.done(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(outcomes.Await(i).status.ok());
  EXPECT_THAT(closed_, ElementsAre("drain"));
  batcher.Submit(std::make_unique<TestTask>(&outcomes, 4));
  EXPECT_EQ(outcomes.Await(4).status.code(), absl::StatusCode::kUnavailable);
  batcher.Shutdown();
}

// Whatever the timing: every task is done exactly once, with its own value.
TEST_F(BatcherTest, ManyThreadsLoseAndDoubleNothing) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 500;
  Outcomes outcomes(kThreads * kTasks);
  RealClock clock;
  device_.SetMaxRows(40);
  {
    Batcher batcher({.queue = {.max_batch_bytes = 400, .max_age = microseconds(50)}}, &device_,
                    &executor_, &clock);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kTasks; ++i) {
          const int index = t * kTasks + i;
          auto task = std::make_unique<TestTask>(&outcomes, index, static_cast<float>(index % 50));
          task->cancelled = index % 17 == 0;
          batcher.Submit(std::move(task));
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
  const auto all = outcomes.all();
  for (int i = 0; i < kThreads * kTasks; ++i) {
    EXPECT_EQ(all[i].calls, 1) << i;
    if (i % 17 == 0) {
      EXPECT_EQ(all[i].status.code(), absl::StatusCode::kCancelled) << i;
    } else {
      EXPECT_TRUE(all[i].status.ok()) << all[i].status;
      EXPECT_NEAR(all[i].loss, std::log1p(std::exp(i % 50)), 1e-6 * (i % 50 + 1)) << i;
    }
  }
}

}  // namespace
}  // namespace softloss
