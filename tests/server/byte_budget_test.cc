#include "server/byte_budget.h"

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;

TEST(ByteBudget, ChargesTenantAndWhole) {
  ByteBudget budget({.global_bytes = 100, .tenant_bytes = 60});
  auto tenant = budget.FindTenant("a");
  auto charge = budget.Acquire(tenant, 40);
  ASSERT_TRUE(charge.ok());
  EXPECT_EQ(charge->bytes(), 40);
  EXPECT_EQ(tenant->used(), 40);
  EXPECT_EQ(budget.used(), 40);
  EXPECT_EQ(budget.limit(), 100);
  EXPECT_EQ(budget.tenant_limit(), 60);
}

TEST(ByteBudget, FullTenantIsResourceExhaustedAndNamed) {
  ByteBudget budget({.global_bytes = 100, .tenant_bytes = 60});
  auto tenant = budget.FindTenant("ward-7");
  auto held = budget.Acquire(tenant, 59);
  ASSERT_TRUE(held.ok());
  auto refused = budget.Acquire(tenant, 2);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), HasSubstr("ward-7"));
  EXPECT_THAT(refused.status().message(), HasSubstr("tenant_budget_bytes is 60"));
  EXPECT_THAT(refused.status().message(), HasSubstr("in use 59"));
  EXPECT_THAT(refused.status().message(), HasSubstr("asked for 2"));
  EXPECT_EQ(budget.used(), 59);
  EXPECT_TRUE(budget.Acquire(tenant, 1).ok());
}

TEST(ByteBudget, FullWholeIsUnavailableAndChargesNobody) {
  ByteBudget budget({.global_bytes = 100, .tenant_bytes = 60});
  auto a = budget.FindTenant("a");
  auto b = budget.FindTenant("b");
  auto held = budget.Acquire(a, 60);
  ASSERT_TRUE(held.ok());
  auto refused = budget.Acquire(b, 41);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(refused.status().message(), HasSubstr("global_budget_bytes is 100"));
  EXPECT_EQ(b->used(), 0);
  EXPECT_EQ(budget.used(), 60);
}

TEST(ByteBudget, MoreThanCanEverFitIsNotWorthRetrying) {
  ByteBudget budget({.global_bytes = 100, .tenant_bytes = 1000});
  EXPECT_EQ(budget.tenant_limit(), 100);
  EXPECT_EQ(budget.Acquire(budget.FindTenant("a"), 101).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ByteBudget, HugeRequestsDoNotOverflow) {
  ByteBudget budget({.global_bytes = 100, .tenant_bytes = 100});
  auto tenant = budget.FindTenant("a");
  auto held = budget.Acquire(tenant, 50);
  ASSERT_TRUE(held.ok());
  EXPECT_FALSE(budget.Acquire(tenant, std::numeric_limits<std::int64_t>::max()).ok());
  EXPECT_EQ(budget.used(), 50);
}

TEST(ByteBudget, ReduceToGivesBackTheDifferenceOnce) {
  ByteBudget budget({.global_bytes = 100});
  auto tenant = budget.FindTenant("a");
  {
    auto charge = budget.Acquire(tenant, 80);
    ASSERT_TRUE(charge.ok());
    charge->ReduceTo(30);
    EXPECT_EQ(budget.used(), 30);
    charge->ReduceTo(50);  // a charge never grows
    EXPECT_EQ(budget.used(), 30);
    Charge moved = *std::move(charge);
    EXPECT_EQ(budget.used(), 30);
    auto other = budget.Acquire(tenant, 5);
    ASSERT_TRUE(other.ok());
    moved = *std::move(other);  // gives back what it held
    EXPECT_EQ(budget.used(), 5);
  }
  EXPECT_EQ(budget.used(), 0);
  EXPECT_EQ(tenant->used(), 0);
}

TEST(ByteBudget, ChargesOutliveTheBudget) {
  Charge charge;
  std::shared_ptr<Tenant> tenant;
  {
    ByteBudget budget({.global_bytes = 100});
    tenant = budget.FindTenant("a");
    charge = *budget.Acquire(tenant, 10);
  }
  charge.ReduceTo(0);
  EXPECT_EQ(tenant->used(), 0);
}

TEST(ByteBudget, ANameIsOneTenantWhileHeld) {
  ByteBudget budget({.global_bytes = 100});
  auto tenant = budget.FindTenant("a");
  EXPECT_EQ(budget.FindTenant("a"), tenant);
  EXPECT_NE(budget.FindTenant("b"), tenant);
  EXPECT_EQ(tenant->name(), "a");
}

TEST(ByteBudget, MadeUpNamesShareOneTenantAndUnusedOnesAreForgotten) {
  ByteBudget budget({.global_bytes = 100});
  std::vector<std::shared_ptr<Tenant>> held;
  for (std::size_t i = 0; i < ByteBudget::kMaxTenants; ++i) {
    held.push_back(budget.FindTenant(absl::StrCat("t", i)));
    EXPECT_EQ(held.back()->name(), absl::StrCat("t", i));
  }
  auto late = budget.FindTenant("late");
  EXPECT_EQ(late->name(), "other");
  EXPECT_EQ(budget.FindTenant("later"), late);
  EXPECT_EQ(budget.FindTenant("t3"), held[3]);
  held.erase(held.begin() + 5);
  EXPECT_EQ(budget.FindTenant("late")->name(), "late");
}

// Whatever the interleaving: never over a limit, and everything is returned.
TEST(ByteBudget, RandomTrafficStaysInsideAndReturnsAll) {
  constexpr std::int64_t kGlobal = 10'000;
  constexpr std::int64_t kTenant = 4'000;
  ByteBudget budget({.global_bytes = kGlobal, .tenant_bytes = kTenant});
  std::vector<std::shared_ptr<Tenant>> tenants;
  for (int i = 0; i < 4; ++i) tenants.push_back(budget.FindTenant(absl::StrCat("t", i)));
  std::atomic<int> over{0}, granted{0}, tenant_full{0}, global_full{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<Charge> held;
      for (int step = 0; step < 20'000; ++step) {
        const auto& tenant = tenants[random() % tenants.size()];
        switch (random() % 4) {
          case 0:
          case 1: {
            auto charge = budget.Acquire(tenant, random() % 1'500);
            if (charge.ok()) {
              ++granted;
              held.push_back(*std::move(charge));
            } else if (charge.status().code() == absl::StatusCode::kResourceExhausted) {
              ++tenant_full;
            } else {
              ++global_full;
            }
            break;
          }
          case 2:
            if (!held.empty()) held[random() % held.size()].ReduceTo(random() % 700);
            break;
          case 3:
            if (!held.empty()) {
              std::swap(held[random() % held.size()], held.back());
              held.pop_back();
            }
            break;
        }
        if (budget.used() > kGlobal || budget.used() < 0) ++over;
        if (tenant->used() > kTenant || tenant->used() < 0) ++over;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(over, 0);
  EXPECT_EQ(budget.used(), 0);
  for (const auto& tenant : tenants) EXPECT_EQ(tenant->used(), 0);
  // The limits were met, or the test says nothing.
  EXPECT_GT(granted, 0);
  EXPECT_GT(tenant_full, 0);
  EXPECT_GT(global_full, 0);
}

}  // namespace
}  // namespace softloss
