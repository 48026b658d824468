#include "kernels/fragment_cursor.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/bytes.h"

namespace softloss {
namespace {

using testing::Bytes;
using testing::Pieces;
using testing::PoisonedBuffer;

Bytes Counting(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i % 251);
  return bytes;
}

TEST(FragmentCursorTest, ReadsTheSameBytesHoweverTheyAreCut) {
  const Bytes bytes = Counting(1000);
  for (std::size_t max_size : {0, 1, 2, 7, 64}) {
    const PoisonedBuffer buffer(bytes, Pieces{.max_size = max_size});
    for (std::size_t step : {1, 3, 4, 8, 200}) {
      FragmentCursor cursor(buffer.fragments());
      Bytes scratch(step);
      for (std::size_t at = 0; at < 1000; at += step) {
        const std::size_t n = std::min(step, 1000 - at);
        const std::byte* read = cursor.Read(n, scratch.data());
        ASSERT_TRUE(std::equal(read, read + n, bytes.begin() + static_cast<std::ptrdiff_t>(at)));
      }
      EXPECT_EQ(cursor.contiguous(), 0u);
    }
  }
}

TEST(FragmentCursorTest, PointsIntoTheFragmentWhereItCan) {
  const Bytes bytes = Counting(10);
  const Fragment fragments[] = {{bytes.data(), 6}, {bytes.data() + 6, 4}};
  FragmentCursor cursor{Fragments(fragments)};
  std::byte scratch[8];
  EXPECT_EQ(cursor.Read(4, scratch), bytes.data());
  EXPECT_EQ(cursor.contiguous(), 2u);
  EXPECT_EQ(cursor.TakeContiguous(4), nullptr);
  EXPECT_EQ(cursor.Read(4, scratch), scratch);
  EXPECT_EQ(scratch[3], bytes[7]);
  EXPECT_EQ(cursor.TakeContiguous(2), bytes.data() + 8);
}

TEST(FragmentCursorTest, CopiesRememberTheirPosition) {
  const Bytes bytes = Counting(100);
  const PoisonedBuffer buffer(bytes, Pieces{.max_size = 5});
  FragmentCursor cursor(buffer.fragments());
  cursor.Skip(33);
  FragmentCursor mark = cursor;
  cursor.Skip(50);
  std::byte a, b;
  EXPECT_EQ(*mark.Read(1, &a), bytes[33]);
  EXPECT_EQ(*cursor.Read(1, &b), bytes[83]);
}

TEST(FragmentWriterTest, WritesAcrossCutsAndNowhereElse) {
  const Bytes bytes = Counting(500);
  for (std::size_t max_size : {0, 1, 3, 50}) {
    PoisonedBuffer buffer(500, Pieces{.max_size = max_size});
    FragmentWriter writer(buffer.mutable_fragments());
    for (std::size_t at = 0; at < 500; at += 20) writer.Write(bytes.data() + at, 20);
    EXPECT_EQ(buffer.Gathered(), bytes);
    EXPECT_TRUE(buffer.PoisonIsIntact());
  }
}

}  // namespace
}  // namespace softloss
