#include "layout/tile.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Pieces = std::vector<std::pair<std::int64_t, std::int64_t>>;

Pieces PiecesOf(const Geometry& g, std::int64_t row_begin, std::int64_t rows) {
  Pieces pieces;
  ForEachPiece(g, row_begin, rows, [&](std::int64_t offset, std::int64_t elements) {
    pieces.emplace_back(offset, elements);
  });
  return pieces;
}

TEST(ForEachPieceTest, ClassLastIsOnePiece) {
  const Geometry g = {.outer = 10, .classes = 3, .inner = 1, .batch = 10};
  EXPECT_THAT(PiecesOf(g, 2, 4), ElementsAre(std::pair(6, 12)));
  EXPECT_THAT(PiecesOf(g, 2, 0), IsEmpty());
}

TEST(ForEachPieceTest, ATileHasALineAClass) {
  const Geometry g = {.outer = 1, .classes = 3, .inner = 10, .batch = 1};
  EXPECT_THAT(PiecesOf(g, 4, 5), ElementsAre(std::pair(4, 5), std::pair(14, 5), std::pair(24, 5)));
}

TEST(ForEachPieceTest, ATileMayCrossImages) {
  const Geometry g = {.outer = 3, .classes = 2, .inner = 4, .batch = 3};
  // Rows 2…9: two of image 0, all of image 1, two of image 2.
  EXPECT_THAT(PiecesOf(g, 2, 8), ElementsAre(std::pair(2, 2), std::pair(8, 4), std::pair(16, 2),
                                             std::pair(6, 2), std::pair(12, 4), std::pair(20, 2)));
}

// Position c·rows + r of a chunk is the tensor's element (o·C + c)·inner + i of row o·inner + i.
TEST(ForEachPieceTest, EveryElementIsWhereTheDefinitionPutsIt) {
  for (const Geometry& g : {Geometry{3, 4, 5, 3}, Geometry{7, 3, 1, 7}, Geometry{1, 1, 9, 1}}) {
    for (std::int64_t begin = 0; begin <= g.rows(); ++begin) {
      for (std::int64_t rows = 0; begin + rows <= g.rows(); ++rows) {
        std::vector<std::int64_t> elements;
        for (const auto& [offset, size] : PiecesOf(g, begin, rows)) {
          for (std::int64_t i = 0; i < size; ++i) elements.push_back(offset + i);
        }
        ASSERT_EQ(static_cast<std::int64_t>(elements.size()), rows * g.classes);
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < g.classes; ++c) {
            const std::int64_t row = begin + r;
            const std::int64_t in_chunk = g.class_last() ? r * g.classes + c : c * rows + r;
            ASSERT_EQ(elements[static_cast<std::size_t>(in_chunk)],
                      (row / g.inner * g.classes + c) * g.inner + row % g.inner);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace softloss
