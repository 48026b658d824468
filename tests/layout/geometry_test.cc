#include "layout/geometry.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::softloss::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Shape = std::vector<std::int64_t>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(CheckedElementsTest, Multiplies) {
  EXPECT_EQ(*CheckedElements({}, "x"), 1);
  EXPECT_EQ(*CheckedElements(Shape{2, 3, 5}, "x"), 30);
  EXPECT_EQ(*CheckedElements(Shape{2, 0, 5}, "x"), 0);
}

TEST(CheckedElementsTest, ZeroWinsOverOverflow) {
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(*CheckedElements(Shape{huge, huge, 0}, "x"), 0);
}

TEST(CheckedElementsTest, RefusesNegativeDimensions) {
  EXPECT_THAT(CheckedElements(Shape{2, -1}, "label"),
              StatusIs(kInvalid, AllOf(HasSubstr("label.shape"), HasSubstr("[2, -1]"))));
  EXPECT_THAT(CheckedElements(Shape{0, -1}, "label"), StatusIs(kInvalid, HasSubstr("negative")));
}

TEST(CheckedElementsTest, RefusesWhatOverflowsInBytes) {
  const std::int64_t limit = std::int64_t{1} << 60;
  EXPECT_EQ(*CheckedElements(Shape{limit - 1}, "x"), limit - 1);
  // The byte count of the largest tensor that is let through fits.
  EXPECT_LE(limit - 1, std::numeric_limits<std::int64_t>::max() / 8);
  EXPECT_THAT(CheckedElements(Shape{limit}, "x"), StatusIs(kInvalid, HasSubstr("2^60")));
  EXPECT_THAT(CheckedElements(Shape{limit / 2, 2}, "x"), StatusIs(kInvalid, HasSubstr("2^60")));
  // These products wrap around to small numbers in 64 bits.
  EXPECT_FALSE(CheckedElements(Shape{1LL << 32, 1LL << 32}, "x").ok());
  EXPECT_FALSE(CheckedElements(Shape{1LL << 62, 4, 3}, "x").ok());
}

TEST(MakeGeometryTest, WithoutAnAxisEveryElementIsARow) {
  const Geometry g = *MakeGeometry(Shape{4, 3}, std::nullopt);
  EXPECT_EQ(g, (Geometry{.outer = 12, .classes = 1, .inner = 1, .batch = 4}));
  EXPECT_EQ(g.rows(), 12);
  EXPECT_TRUE(g.class_last());
  EXPECT_EQ(*MakeGeometry({}, std::nullopt),
            (Geometry{.outer = 1, .classes = 1, .inner = 1, .batch = 1}));
}

TEST(MakeGeometryTest, SplitsAroundTheAxis) {
  const Geometry g = *MakeGeometry(Shape{2, 5, 3, 4}, 1);
  EXPECT_EQ(g, (Geometry{.outer = 2, .classes = 5, .inner = 12, .batch = 2}));
  EXPECT_EQ(g.rows(), 24);
  EXPECT_EQ(g.elements(), 120);
  EXPECT_FALSE(g.class_last());
  EXPECT_EQ(*MakeGeometry(Shape{2, 5, 3, 4}, -3), g);
  EXPECT_TRUE(MakeGeometry(Shape{2, 3, 4}, -1)->class_last());
  // One position behind the axis is as good as none.
  EXPECT_TRUE(MakeGeometry(Shape{2, 5, 1, 1}, 1)->class_last());
  EXPECT_EQ(MakeGeometry(Shape{7}, 0)->rows(), 1);
}

TEST(MakeGeometryTest, RefusesBadAxes) {
  EXPECT_THAT(MakeGeometry(Shape{2, 3}, 2), StatusIs(kInvalid, HasSubstr("class_axis")));
  EXPECT_THAT(MakeGeometry(Shape{2, 3}, -3), StatusIs(kInvalid, HasSubstr("was -3")));
  EXPECT_THAT(MakeGeometry({}, 0), StatusIs(kInvalid, HasSubstr("class_axis")));
  EXPECT_THAT(MakeGeometry(Shape{2, 0}, 1), StatusIs(kInvalid, HasSubstr("must not be empty")));
  EXPECT_THAT(MakeGeometry(Shape(9, 1), 0), StatusIs(kInvalid, HasSubstr("8 dimensions")));
}

TEST(MakeGeometryTest, EmptyTensorsHaveNoRows) {
  const Geometry g = *MakeGeometry(Shape{0, 5, 3}, 1);
  EXPECT_EQ(g.rows(), 0);
  EXPECT_EQ(g.classes, 5);
  EXPECT_EQ(g.batch, 0);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(MakeGeometry(Shape{0, 5, huge, huge}, 1)->rows(), 0);
}

// By the definition: max(1, min(256, 2^floor(log2(16384 / C)))).
TEST(LeafRowsTest, FollowsItsDefinition) {
  for (std::int64_t c = 1; c <= 40000; ++c) {
    const double exponent = std::floor(std::log2(16384.0 / static_cast<double>(c)));
    const double expected = std::max(1.0, std::min(256.0, std::exp2(exponent)));
    ASSERT_EQ(LeafRows(c), static_cast<std::int64_t>(expected)) << c;
  }
  EXPECT_EQ(LeafRows(std::int64_t{1} << 40), 1);
  EXPECT_EQ(LeafRows(std::numeric_limits<std::int64_t>::max()), 1);
}

TEST(MaxChunkRowsTest, IsTheLargestNumberOfWholeLeavesThatFits) {
  for (std::int64_t classes : {1, 3, 21, 64, 65, 1000, 16385}) {
    for (std::int64_t row_bytes : {classes * 4, classes * 12 + 5}) {
      for (std::int64_t max_bytes : {1, 1000, 65536, 2 << 20}) {
        const std::int64_t rows = MaxChunkRows(classes, row_bytes, max_bytes);
        EXPECT_EQ(rows % LeafRows(classes), 0);
        EXPECT_LE(rows * row_bytes, max_bytes);
        EXPECT_GT((rows + LeafRows(classes)) * row_bytes, max_bytes);
      }
    }
  }
}

}  // namespace
}  // namespace softloss
