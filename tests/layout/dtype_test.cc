#include "layout/dtype.h"

#include "gtest/gtest.h"
#include "layout/fragments.h"

namespace softloss {
namespace {

TEST(DTypeTest, NamesAndSizesAreNumPys) {
  EXPECT_EQ(Name(DType::kF32), "float32");
  EXPECT_EQ(Name(DType::kBF16), "bfloat16");
  EXPECT_EQ(SizeOf(DType::kF16), 2u);
  EXPECT_EQ(SizeOf(DType::kBF16), 2u);
  EXPECT_EQ(SizeOf(DType::kU8), 1u);
  EXPECT_EQ(SizeOf(DType::kI32), 4u);
  EXPECT_EQ(SizeOf(DType::kF64), 8u);
  EXPECT_EQ(SizeOf(DType::kI64), 8u);
  EXPECT_EQ(SizeOf(static_cast<DType>(99)), 0u);
}

TEST(DTypeTest, EveryNameParsesToItself) {
  for (int i = 1; i <= 7; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(Name(dtype)), dtype);
  }
  EXPECT_EQ(ParseDType("float"), std::nullopt);
  EXPECT_EQ(ParseDType(""), std::nullopt);
  EXPECT_EQ(ParseDType("unknown"), std::nullopt);
}

TEST(DTypeTest, FloatsAndIntegersAreDisjointAndLeaveBytesOut) {
  int floats = 0, integers = 0;
  for (int i = 1; i <= 7; ++i) {
    floats += IsFloat(static_cast<DType>(i));
    integers += IsInteger(static_cast<DType>(i));
    EXPECT_FALSE(IsFloat(static_cast<DType>(i)) && IsInteger(static_cast<DType>(i)));
  }
  EXPECT_EQ(floats, 4);
  EXPECT_EQ(integers, 2);
  EXPECT_FALSE(IsFloat(DType::kU8) || IsInteger(DType::kU8));
}

TEST(FragmentsTest, TotalSizeSums) {
  std::byte bytes[8];
  const Fragment fragments[] = {{bytes, 3}, {bytes + 3, 5}};
  EXPECT_EQ(TotalSize(Fragments(fragments)), 8u);
  EXPECT_EQ(TotalSize(Fragments()), 0u);
}

}  // namespace
}  // namespace softloss
