#include "server/fair_queue.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr std::int64_t kQuantum = RoundRobin<Fifo<int>>::kQuantum;

// Addresses that stand for tenants and flows.
const char kA[8] = {}, kB[8] = {}, kC[8] = {};

template <typename T>
std::vector<T> PopAll(FairQueue<T>* queue) {
  std::vector<T> values;
  while (queue->size() > 0) values.push_back(queue->Pop());
  return values;
}

TEST(FairQueueTest, AFlowKeepsItsOrder) {
  FairQueue<int> queue;
  for (int i = 0; i < 5; ++i) queue.Push(kA, kA, i % 2 == 0 ? 10 * kQuantum : 1, i);
  EXPECT_EQ(queue.size(), 5u);
  EXPECT_EQ(queue.NextCost(), 10 * kQuantum);
  EXPECT_THAT(PopAll(&queue), ElementsAre(0, 1, 2, 3, 4));
}

// Whatever the number of their flows and the size of their items, and however long it goes on.
TEST(FairQueueTest, TenantsShareByBytes) {
  struct Party {
    const char* tenant;
    int flows;
    std::int64_t item;
  };
  const Party parties[] = {{kA, 1, 2 << 20}, {kB, 5, 64 << 10}, {kC, 2, 300000}};
  FairQueue<std::pair<const char*, const char*>> queue;
  const auto push = [&](const Party& p, const char* flow) {
    queue.Push(p.tenant, flow, p.item, std::pair(p.tenant, flow));
  };
  for (const Party& p : parties) {
    for (int f = 0; f < p.flows; ++f) {
      push(p, p.tenant + f);
      push(p, p.tenant + f);
    }
  }
  std::map<const char*, std::int64_t> had, flow_had;
  std::int64_t total = 0;
  while (total < (std::int64_t{1} << 30)) {
    const std::int64_t cost = queue.NextCost();
    const auto [tenant, flow] = queue.Pop();
    const Party& p = *std::find_if(std::begin(parties), std::end(parties),
                                   [t = tenant](const Party& q) { return q.tenant == t; });
    EXPECT_EQ(cost, p.item);
    had[tenant] += cost;
    flow_had[flow] += cost;
    total += cost;
    push(p, flow);  // always backlogged
  }
  for (const Party& p : parties) {
    EXPECT_NEAR(static_cast<double>(had[p.tenant]) / total, 1.0 / 3, 0.01);
    for (int f = 0; f < p.flows; ++f) {
      EXPECT_NEAR(static_cast<double>(flow_had[p.tenant + f]) / had[p.tenant], 1.0 / p.flows, 0.02);
    }
  }
}

TEST(FairQueueTest, SmallItemsPassBulkOfTheSameTenantAndOfOthers) {
  FairQueue<int> queue;
  for (int i = 0; i < 100; ++i) queue.Push(kA, kA, 2 << 20, 1000 + i);
  EXPECT_EQ(queue.Pop(), 1000);
  queue.Push(kA, kA + 1, 8 << 10, 1);
  queue.Push(kB, kB, 8 << 10, 2);
  std::vector<int> next = {queue.Pop(), queue.Pop()};
  EXPECT_THAT(next, UnorderedElementsAre(1, 2));
  // One at a time for ever: each waits for one item of bulk at most, and bulk is not starved.
  int all_waited = 0;
  for (int i = 0; i < 2000; ++i) {
    queue.Push(kB, kB, 8 << 10, 3);
    int waited = 0;
    while (queue.Pop() != 3) ++waited;
    EXPECT_LE(waited, 1) << i;
    all_waited += waited;
  }
  EXPECT_GE(all_waited, 5);
}

// Stopping whenever it has had something large, and coming back later, gains a tenant nothing.
TEST(FairQueueTest, DebtsOutliveAnEmptyQueue) {
  FairQueue<const char*> queue;
  std::map<const char*, std::int64_t> had;
  const auto push = [&](const char* tenant, std::int64_t cost) {
    queue.Push(tenant, tenant, cost, tenant);
  };
  push(kA, 2 << 20);
  push(kB, 100000);
  int since = 0;  // items of B since A's last
  for (int i = 0; i < 20000; ++i) {
    const std::int64_t cost = queue.NextCost();
    const char* const tenant = queue.Pop();
    had[tenant] += cost;
    since = tenant == kA ? 0 : since + 1;
    if (tenant == kB) push(kB, 100000);
    // Late enough that its turn has gone by.
    if (since == 5) push(kA, 2 << 20);
  }
  EXPECT_NEAR(static_cast<double>(had[kA]) / had[kB], 1, 0.05);
}

// Nor does one that stays within its share each time, and comes back before the others had theirs.
TEST(FairQueueTest, ANewcomerIsOneOnceARound) {
  FairQueue<const char*> queue;
  std::map<const char*, std::int64_t> had;
  queue.Push(kA, kA, 8000, kA);
  for (int i = 0; i < 20000; ++i) {
    const std::int64_t cost = queue.NextCost();
    const char* const tenant = queue.Pop();
    had[tenant] += cost;
    if (tenant == kA) queue.Push(kA, kA, 8000, kA);
    if (tenant == kA && queue.size() == 1) queue.Push(kB, kB, 120000, kB);
  }
  EXPECT_NEAR(static_cast<double>(had[kB]) / had[kA], 1, 0.1);
}

TEST(FairQueueTest, ErasedValuesTakeNoTurns) {
  FairQueue<int> queue;
  for (int i = 0; i < 12; ++i) queue.Push(i % 2 == 0 ? kA : kB, kC + i % 3, 10, i);
  std::vector<int> erased, left;
  EXPECT_EQ(queue.EraseIf([&](int& value) {
    if (value % 4 != 0) return false;
    erased.push_back(value);
    return true;
  }),
            3u);
  EXPECT_THAT(erased, UnorderedElementsAre(0, 4, 8));
  EXPECT_EQ(queue.size(), 9u);
  queue.ForEach([&](int value) { left.push_back(value); });
  EXPECT_THAT(left, UnorderedElementsAre(1, 2, 3, 5, 6, 7, 9, 10, 11));
  EXPECT_THAT(PopAll(&queue), UnorderedElementsAre(1, 2, 3, 5, 6, 7, 9, 10, 11));
}

TEST(FairQueueTest, HoldsWhatCannotBeCopied) {
  FairQueue<std::unique_ptr<int>> queue;
  queue.Push(kA, kA, 1, std::make_unique<int>(7));
  EXPECT_EQ(*queue.Pop(), 7);
}

}  // namespace
}  // namespace softloss
