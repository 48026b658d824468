#include "server/region_table.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr RegionLimits kLimits = {.sessions = 3,
                                  .tenant_sessions = 2,
                                  .session_regions = 2,
                                  .tenant_regions = 3,
                                  .session_bytes = 1000,
                                  .tenant_bytes = 1500};

class RegionTableTest : public ::testing::Test {
 protected:
  // Memory that counts itself.
  absl::StatusOr<std::uint64_t> Register(const std::string& session, std::uint64_t size) {
    return table_.Register(session, size, [&]() -> absl::StatusOr<std::shared_ptr<std::byte>> {
      ++mapped_;
      return std::shared_ptr<std::byte>(new std::byte[size], [this](std::byte* memory) {
        --mapped_;
        delete[] memory;
      });
    });
  }

  RegionTable table_{kLimits};
  int mapped_ = 0;
};

TEST_F(RegionTableTest, FindsRangesOfTheSessionsOwnRegions) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  ASSERT_THAT(table_.Open("b", "uid 1"), IsOk());
  const std::uint64_t region = *Register("a", 100);
  const RegionRange whole = *table_.Find("a", "item.prediction_memory", region, 0, 100);
  const RegionRange part = *table_.Find("a", "item.prediction_memory", region, 40, 60);
  EXPECT_EQ(whole.size, 100u);
  EXPECT_EQ(part.data, whole.data + 40);
  EXPECT_EQ(part.size, 60u);
  EXPECT_EQ(table_.Find("a", "item.prediction_memory", region, 100, 0)->size, 0u);

  EXPECT_THAT(table_.Find("b", "item.prediction_memory", region, 0, 1),
              StatusIs(absl::StatusCode::kNotFound,
                       StartsWith("item.prediction_memory.region: 1 is not registered")));
  EXPECT_THAT(table_.Find("c", "item.prediction_memory", region, 0, 1),
              StatusIs(absl::StatusCode::kNotFound, StartsWith("item.shared_memory_session: ")));
  EXPECT_THAT(table_.Find("", "item.prediction_memory", region, 0, 1),
              StatusIs(absl::StatusCode::kNotFound, StartsWith("item.shared_memory_session: ")));
}

TEST_F(RegionTableTest, RangesBeyondTheRegionAreRefusedWhateverOverflows) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  const std::uint64_t region = *Register("a", 100);
  const struct {
    std::uint64_t offset, length;
  } cases[] = {{0, 101}, {100, 1}, {101, 0}, {1, kMax}, {kMax, 1}, {kMax, kMax}, {50, kMax - 49}};
  for (const auto& c : cases) {
    EXPECT_THAT(table_.Find("a", "item.label_memory", region, c.offset, c.length),
                StatusIs(absl::StatusCode::kOutOfRange,
                         AllOf(StartsWith("item.label_memory.offset: "), HasSubstr("100 bytes"),
                               HasSubstr(std::to_string(c.length)))));
  }
}

TEST_F(RegionTableTest, NumbersAreNeverUsedTwice) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  const std::uint64_t first = *Register("a", 10);
  ASSERT_THAT(table_.Free("a", first), IsOk());
  EXPECT_NE(*Register("a", 10), first);
  EXPECT_THAT(
      table_.Find("a", "f", first, 0, 1),
      StatusIs(absl::StatusCode::kNotFound, "f.region: 1 is not registered in this session"));
  EXPECT_THAT(table_.Free("a", first),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("free_region.region: 1")));
}

// What an item refers to stays, and counts, until the item lets go.
TEST_F(RegionTableTest, FreedMemoryStaysWhileItIsUsed) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  const std::uint64_t region = *Register("a", 900);
  RegionRange used = *table_.Find("a", "f", region, 0, 900);
  ASSERT_THAT(table_.Free("a", region), IsOk());
  EXPECT_EQ(mapped_, 1);
  used.data[899] = std::byte{1};
  EXPECT_THAT(Register("a", 900), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("shared_memory_session_bytes of tenant "
                                                     "'uid 1' is 1000, in use 900")));
  used = RegionRange();
  EXPECT_EQ(mapped_, 0);
  EXPECT_EQ(table_.bytes(), 0);
  EXPECT_THAT(Register("a", 900), IsOk());
}

TEST_F(RegionTableTest, AClosedSessionsMemoryStaysWhileItIsUsed) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  const std::uint64_t region = *Register("a", 100);
  ASSERT_THAT(Register("a", 100), IsOk());
  RegionRange used = *table_.Find("a", "f", region, 0, 100);
  table_.Close("a");
  EXPECT_EQ(mapped_, 1);
  EXPECT_EQ(table_.regions(), 1);
  EXPECT_EQ(table_.sessions(), 0);
  EXPECT_THAT(table_.Find("a", "f", region, 0, 1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("shared_memory_session")));
  used = RegionRange();
  EXPECT_EQ(mapped_, 0);
  EXPECT_EQ(table_.regions(), 0);
  table_.Close("a");  // nothing
}

TEST_F(RegionTableTest, EveryLimitHoldsAndIsNamed) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  ASSERT_THAT(table_.Open("b", "uid 1"), IsOk());
  EXPECT_THAT(Register("a", 0), StatusIs(absl::StatusCode::kInvalidArgument,
                                         "register_region.length: must be at least 1; was 0"));
  EXPECT_THAT(Register("a", 1001), StatusIs(absl::StatusCode::kResourceExhausted,
                                            HasSubstr("shared_memory_session_bytes of tenant "
                                                      "'uid 1' is 1000, in use 0")));
  EXPECT_THAT(Register("a", std::numeric_limits<std::uint64_t>::max()),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("session_bytes")));
  ASSERT_THAT(Register("a", 999), IsOk());
  ASSERT_THAT(Register("a", 1), IsOk());
  EXPECT_THAT(Register("a", 1), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("shared_memory_session_regions")));
  EXPECT_THAT(Register("b", 501), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("shared_memory_tenant_bytes")));
  ASSERT_THAT(Register("b", 100), IsOk());
  EXPECT_THAT(Register("b", 1), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("shared_memory_tenant_regions")));
  // Another tenant has room of its own.
  ASSERT_THAT(table_.Open("c", "uid 2"), IsOk());
  EXPECT_THAT(Register("c", 1000), IsOk());
  EXPECT_EQ(mapped_, 4);
  EXPECT_EQ(table_.bytes(), 2100);
}

TEST_F(RegionTableTest, SessionsAreLimited) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  EXPECT_THAT(table_.Open("a", "uid 1"),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("session")));
  ASSERT_THAT(table_.Open("b", "uid 1"), IsOk());
  EXPECT_THAT(table_.Open("c", "uid 1"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at most 2 clients of tenant 'uid 1'")));
  ASSERT_THAT(table_.Open("c", "uid 2"), IsOk());
  EXPECT_THAT(table_.Open("d", "uid 3"),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most 3 clients")));
  table_.Close("b");
  EXPECT_THAT(table_.Open("d", "uid 1"), IsOk());
}

// A region that could not be mapped takes no room.
TEST_F(RegionTableTest, AFailedMappingLeavesNothing) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(table_.Register("a", 1000,
                                []() -> absl::StatusOr<std::shared_ptr<std::byte>> {
                                  return absl::InvalidArgumentError("no");
                                }),
                StatusIs(absl::StatusCode::kInvalidArgument, "no"));
  }
  EXPECT_EQ(table_.regions(), 0);
  EXPECT_EQ(*Register("a", 1000), 1u);
}

TEST_F(RegionTableTest, RangesOverlapByBytesOfOneRegion) {
  ASSERT_THAT(table_.Open("a", "uid 1"), IsOk());
  const std::uint64_t region = *Register("a", 100);
  const auto range = [&](std::uint64_t offset, std::uint64_t length) {
    return *table_.Find("a", "f", region, offset, length);
  };
  EXPECT_TRUE(range(0, 10).Overlaps(range(9, 10)));
  EXPECT_TRUE(range(9, 10).Overlaps(range(0, 10)));
  EXPECT_TRUE(range(0, 10).Overlaps(range(0, 10)));
  EXPECT_TRUE(range(0, 100).Overlaps(range(50, 1)));
  EXPECT_FALSE(range(0, 10).Overlaps(range(10, 10)));
  EXPECT_FALSE(range(10, 10).Overlaps(range(0, 10)));
  EXPECT_FALSE(range(5, 0).Overlaps(range(0, 10)));
}

}  // namespace
}  // namespace softloss
