#include "server/batch_queue.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace softloss {
namespace {

using std::chrono::microseconds;
using ::testing::HasSubstr;

struct NamedTask final : ScoreTask {
  int name = 0;
  void Done() override {}
};

TimePoint At(int us) { return TimePoint(std::chrono::hours(1)) + microseconds(us); }

constexpr BatchQueue::Options kOptions = {.max_batch_bytes = 100,
                                          .max_age = microseconds(50),
                                          .deadline_margin = microseconds(10),
                                          .max_queue_bytes = 1000};

// Drives a queue by short steps, and writes what comes out: "full:1,2" is a batch of tasks 1 and 2.
class Script {
 public:
  explicit Script(BatchQueue::Options options = kOptions) : queue(options) {}

  // Adds the next task (they are numbered from 1).
  absl::Status Add(int at, std::int64_t bytes, int classes = 10,
                   std::optional<int> deadline = std::nullopt) {
    auto task = std::make_unique<NamedTask>();
    task->name = ++added_;
    task->bytes = bytes;
    task->key.classes = classes;
    task->tenant = tenant;
    if (deadline) task->deadline = At(*deadline);
    tasks.push_back(task.get());
    std::unique_ptr<ScoreTask> taken = std::move(task);
    absl::Status status = queue.Add(taken, At(at));
    EXPECT_EQ(status.ok(), taken == nullptr);
    return status;
  }

  std::string Take(int at, bool idle) {
    std::optional<Batch> batch = queue.Take(At(at), idle);
    if (!batch) return "";
    std::int64_t bytes = 0;
    for (const auto& task : batch->tasks) {
      bytes += task->bytes;
      EXPECT_EQ(task->key, batch->key);
    }
    EXPECT_EQ(bytes, batch->bytes);
    return absl::StrCat(std::string(Name(batch->reason)), ":", Names(batch->tasks));
  }

  std::string Dropped(int at) { return Names(queue.TakeDropped(At(at))); }

  std::optional<int> NextDeadline() const {
    const auto next = queue.NextDeadline();
    if (!next) return std::nullopt;
    if (*next == TimePoint::min()) return -1;
    return static_cast<int>((*next - At(0)) / microseconds(1));
  }

  const void* tenant = nullptr;  // of what is added next
  BatchQueue queue;
  std::vector<NamedTask*> tasks;  // by name - 1; only while alive

 private:
  static std::string Names(const std::vector<std::unique_ptr<ScoreTask>>& tasks) {
    return absl::StrJoin(tasks, ",", [](std::string* out, const auto& task) {
      absl::StrAppend(out, static_cast<const NamedTask&>(*task).name);
    });
  }
  int added_ = 0;
};

// What was added, and the batches that Take gives, again and again, at one moment.
struct Row {
  const char* what;
  struct Event {
    int at;
    std::int64_t bytes;
    int classes = 10;
    std::optional<int> deadline = std::nullopt;
  };
  std::vector<Event> events;
  int now;
  bool idle;
  std::vector<std::string> batches;
  std::string dropped = "";
};

TEST(BatchQueue, TimedEventsToBatches) {
  const std::vector<Row> rows = {
      {"nothing queued", {}, 0, true, {}},
      {"a busy lane waits", {{0, 10}}, 49, false, {}},
      {"an idle lane does not", {{0, 10}}, 0, true, {"idle:1"}},
      {"idle takes all of a key", {{0, 10}, {1, 10}}, 1, true, {"idle:1,2"}},
      {"age counts from the oldest", {{0, 10}, {40, 10}}, 50, false, {"age:1,2"}},
      {"age before idle", {{0, 10}}, 50, true, {"age:1"}},
      {"exactly full", {{0, 60}, {0, 40}}, 0, false, {"full:1,2"}},
      {"one byte short of full", {{0, 60}, {0, 39}}, 0, false, {}},
      {"what does not fit waits", {{0, 60}, {0, 41}}, 0, false, {"full:1"}},
      {"what is over is a batch of its own", {{0, 60}, {0, 41}}, 0, true, {"full:1", "idle:2"}},
      {"several full ones",
       {{0, 50}, {0, 50}, {0, 50}, {0, 50}},
       0,
       false,
       {"full:1,2", "full:3,4"}},
      {"oversize goes alone",
       {{0, 10}, {0, 500}, {0, 10}},
       0,
       true,
       {"full:1", "full:2", "idle:3"}},
      {"order is kept, though a later one would fit",
       {{0, 60}, {0, 50}, {0, 10}},
       0,
       false,
       {"full:1"}},
      {"deadline less margin", {{0, 10, 10, 30}}, 20, false, {"deadline:1"}},
      {"not before that", {{0, 10, 10, 30}}, 19, false, {}},
      {"a later task's deadline closes the batch",
       {{0, 10}, {1, 10, 10, 30}},
       20,
       false,
       {"deadline:1,2"}},
      {"expired is dropped", {{0, 10, 10, 30}, {0, 10}}, 30, true, {"idle:2"}, "1"},
      {"expired at arrival", {{40, 10, 10, 30}}, 40, true, {}, "1"},
      {"dropping makes it not full", {{0, 60, 10, 30}, {0, 40}}, 30, false, {}, "1"},
      {"keys never mix", {{0, 10, 10}, {0, 10, 20}, {0, 10, 10}}, 0, true, {"idle:1,3", "idle:2"}},
      {"oldest key first",
       {{0, 10, 20}, {1, 10, 10}, {2, 10, 30}},
       5,
       true,
       {"idle:1", "idle:2", "idle:3"}},
      {"an older key before a full one",
       {{0, 10, 20}, {1, 100, 10}},
       5,
       true,
       {"idle:1", "full:2"}},
      {"but not if it is still open", {{0, 10, 20}, {1, 100, 10}}, 5, false, {"full:2"}},
      {"a busy key's rest goes behind",
       {{0, 90, 10}, {1, 10, 20}, {2, 90, 10}},
       5,
       true,
       {"full:1", "idle:2", "idle:3"}},
      {"no bytes at all", {{0, 0}, {0, 0}}, 0, true, {"idle:1,2"}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    Script script;
    for (const Row::Event& e : row.events) {
      ASSERT_TRUE(script.Add(e.at, e.bytes, e.classes, e.deadline).ok());
    }
    std::vector<std::string> batches;
    for (std::string b = script.Take(row.now, row.idle); !b.empty();
         b = script.Take(row.now, row.idle)) {
      batches.push_back(b);
    }
    EXPECT_EQ(batches, row.batches);
    EXPECT_EQ(script.Dropped(row.now), row.dropped);
  }
}

TEST(BatchQueue, NextDeadlineIsWhenABusyLanesBatchCloses) {
  Script script;
  EXPECT_EQ(script.NextDeadline(), std::nullopt);
  ASSERT_TRUE(script.Add(0, 10).ok());
  EXPECT_EQ(script.NextDeadline(), 50);
  ASSERT_TRUE(script.Add(5, 10, 20, 45).ok());
  EXPECT_EQ(script.NextDeadline(), 35);
  EXPECT_EQ(script.Take(34, false), "");
  EXPECT_EQ(script.Take(35, false), "deadline:2");
  EXPECT_EQ(script.NextDeadline(), 50);
  ASSERT_TRUE(script.Add(36, 95).ok());
  EXPECT_EQ(script.NextDeadline(), -1);  // full: now
  EXPECT_EQ(script.Take(36, false), "full:1");
  EXPECT_EQ(script.NextDeadline(), 86);
  EXPECT_EQ(script.Take(86, false), "age:3");
  EXPECT_EQ(script.NextDeadline(), std::nullopt);
}

TEST(BatchQueue, ATasksOwnDeadlineLeavesWithIt) {
  Script script;
  ASSERT_TRUE(script.Add(0, 95, 10, 40).ok());
  ASSERT_TRUE(script.Add(1, 10).ok());
  EXPECT_EQ(script.Take(1, false), "full:1");
  EXPECT_EQ(script.NextDeadline(), 51);
}

TEST(BatchQueue, CancelledTasksAreDroppedWhereverTheyAre) {
  Script script;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(script.Add(i, 10, i == 3 ? 20 : 10).ok());
  script.tasks[1]->cancelled = true;
  script.tasks[3]->cancelled = true;
  EXPECT_EQ(script.Take(5, true), "idle:1,3");
  EXPECT_EQ(script.NextDeadline(), -1);  // dropped ones are waiting
  EXPECT_THAT(script.Dropped(5), testing::AnyOf("2,4", "4,2"));
  EXPECT_TRUE(script.queue.empty());
  EXPECT_EQ(script.queue.bytes(), 0);
  EXPECT_EQ(script.NextDeadline(), std::nullopt);
}

TEST(BatchQueue, RefusesBeyondItsBytesButNeverWhenEmpty) {
  Script script;
  ASSERT_TRUE(script.Add(0, 5000).ok());
  const absl::Status full = script.Add(0, 1);
  EXPECT_EQ(full.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(full.message(), HasSubstr("the limit is 1000 bytes, queued 5000; the task has 1"));
  EXPECT_EQ(script.Take(0, true), "full:1");
  ASSERT_TRUE(script.Add(0, 400).ok());
  ASSERT_TRUE(script.Add(0, 600).ok());
  EXPECT_FALSE(script.Add(0, 1).ok());
}

TEST(BatchQueue, DrainClosesEverything) {
  Script script;
  ASSERT_TRUE(script.Add(0, 10, 10).ok());
  ASSERT_TRUE(script.Add(0, 10, 20).ok());
  script.queue.Drain();
  EXPECT_EQ(script.NextDeadline(), -1);
  EXPECT_EQ(script.Take(0, false), "drain:1");
  EXPECT_EQ(script.Take(0, false), "drain:2");
  EXPECT_EQ(script.NextDeadline(), std::nullopt);
}

TEST(BatchQueue, CountsWhatIsQueued) {
  Script script;
  EXPECT_EQ(script.queue.oldest(), std::nullopt);
  ASSERT_TRUE(script.Add(3, 10, 10).ok());
  ASSERT_TRUE(script.Add(5, 20, 20).ok());
  EXPECT_EQ(script.queue.items(), 2);
  EXPECT_EQ(script.queue.bytes(), 30);
  EXPECT_EQ(script.queue.oldest(), At(3));
  EXPECT_EQ(script.Take(9, true), "idle:1");
  EXPECT_EQ(script.queue.items(), 1);
  EXPECT_EQ(script.queue.bytes(), 20);
  EXPECT_EQ(script.queue.oldest(), At(5));
}

TEST(BatchQueue, TenantsShareABatchThatDoesNotHoldAll) {
  constexpr std::int64_t kTask = 1 << 20;
  Script script({.max_batch_bytes = 4 * kTask, .max_queue_bytes = 100 * kTask});
  const char tenants[2] = {};
  script.tenant = &tenants[0];
  for (int i = 1; i <= 6; ++i) ASSERT_TRUE(script.Add(i, kTask).ok());
  script.tenant = &tenants[1];
  for (int i = 7; i <= 9; ++i) ASSERT_TRUE(script.Add(i, kTask).ok());
  EXPECT_EQ(script.Take(10, true), "full:1,7,2,8");
  EXPECT_EQ(script.queue.oldest(), At(3));
  EXPECT_EQ(script.Take(10, true), "full:3,9,4,5");
  EXPECT_EQ(script.Take(10, true), "idle:6");
}

TEST(BatchQueue, TellsHowLongATaskWaited) {
  Script script;
  ASSERT_TRUE(script.Add(3, 10).ok());
  ASSERT_TRUE(script.Add(5, 10).ok());
  const auto batch = script.queue.Take(At(10), true);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->tasks[0]->times.queue_ns, 7000u);
  EXPECT_EQ(batch->tasks[1]->times.queue_ns, 5000u);
}

}  // namespace
}  // namespace softloss
