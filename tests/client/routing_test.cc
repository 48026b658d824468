#include "client/cpp/routing.h"

#include <vector>

#include "gtest/gtest.h"

namespace softloss::internal {
namespace {

constexpr std::int64_t kSmall = 8 << 10, kBulk = 2 << 20;

struct Row {
  const char* what;
  std::vector<LaneLoad> lanes;
  std::int64_t bytes;
  std::size_t lane;
  bool crowded;
};

TEST(RoutingTest, KeepsSmallRequestsOutOfTheWayOfBulk) {
  const Row rows[] = {
      {"one connection takes all", {{}}, kSmall, 0, false},
      {"and bulk", {{}}, kBulk, 0, false},
      {"small items only crowd nobody", {{64 * kSmall, 0}}, kSmall, 0, false},
      {"small beside bulk wants another", {{0, kBulk}}, kSmall, 0, true},
      {"small goes where there is no bulk", {{0, kBulk}, {300 * kSmall, 0}}, kSmall, 1, false},
      {"or less", {{0, 3 * kBulk}, {0, 2 * kBulk}}, kSmall, 1, true},
      {"without bulk, to the least of all",
       {{3 * kSmall, 0}, {kSmall, 0}, {2 * kSmall, 0}},
       kSmall,
       1,
       false},
      {"bulk leaves the last to small", {{0, 5 * kBulk}, {0, 0}}, kBulk, 0, false},
      {"bulk goes to the least of the others",
       {{0, 2 * kBulk}, {64 * kSmall, 0}, {0, 0}},
       kBulk,
       1,
       false},
      {"bulk that waits wants another", {{0, kBusyBytes + 1}, {0, 0}}, kBulk, 0, true},
      {"the largest small one", {{0, kBulk}, {}}, kSmallBytes, 1, false},
      {"the smallest bulk", {{0, kBulk}, {}}, kSmallBytes + 1, 0, false},
  };
  for (const Row& row : rows) {
    const Route route = ChooseLane(row.lanes, row.bytes);
    EXPECT_EQ(route.lane, row.lane) << row.what;
    EXPECT_EQ(route.crowded, row.crowded) << row.what;
  }
}

TEST(RoutingTest, OpensAFewConnectionsAtMost) {
  EXPECT_EQ(MostLanes(0), 2);  // unknown
  EXPECT_EQ(MostLanes(2), 2);
  EXPECT_EQ(MostLanes(8), 3);
  EXPECT_EQ(MostLanes(256), 5);
}

}  // namespace
}  // namespace softloss::internal
