#include "kernels/annotation/overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/testing/random.h"

namespace softloss::annotation {
namespace {

using testing::Random;

Overlap Of(const std::vector<double>& a, const std::vector<double>& b) {
  Overlap overlap;
  overlap.Add(a, b);
  return overlap;
}

TEST(OverlapTest, HardMasksAreSets) {
  const Overlap overlap = Of({1, 1, 1, 0, 0}, {0, 1, 1, 1, 0});
  EXPECT_DOUBLE_EQ(overlap.dice(), 2 * 2 / 6.0);
  EXPECT_DOUBLE_EQ(overlap.iou(), 2 / 4.0);
}

TEST(OverlapTest, AMaskOverlapsItselfFully) {
  const std::vector<double> soft = {0.1, 0.5, 0.9, 0};
  EXPECT_EQ(Of(soft, soft).dice(), 1);
  EXPECT_EQ(Of(soft, soft).iou(), 1);
  EXPECT_EQ(Of({0, 1}, {1, 0}).dice(), 0);
  EXPECT_EQ(Of({0, 1}, {1, 0}).iou(), 0);
}

TEST(OverlapTest, IsOfTheSumsOfMinimaAndMaxima) {
  Random random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> a(100), b(100);
    double least = 0, most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] = random.Chance(0.3) ? 0 : random.Uniform();
      b[i] = random.Chance(0.3) ? 0 : random.Uniform();
      least += std::min(a[i], b[i]);
      most += std::max(a[i], b[i]);
    }
    EXPECT_NEAR(Of(a, b).iou(), least / most, 1e-13);
    EXPECT_NEAR(Of(a, b).dice(), 2 * least / (least + most), 1e-13);
  }
}

TEST(OverlapTest, TypesAgree) {
  Random random(2);
  std::vector<std::uint8_t> a(1000), b(1000);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<std::uint8_t>(random.Int(0, 256));
    b[i] = static_cast<std::uint8_t>(random.Int(0, 256));
  }
  Overlap bytes, floats, doubles;
  bytes.Add(a, b);
  floats.Add(std::vector<float>(a.begin(), a.end()), std::vector<float>(b.begin(), b.end()));
  doubles.Add(std::vector<double>(a.begin(), a.end()), std::vector<double>(b.begin(), b.end()));
  EXPECT_EQ(bytes, floats);
  EXPECT_EQ(bytes, doubles);
}

TEST(OverlapTest, ShardsMergeToTheSameBits) {
  Overlap whole = Of({0.1, 0.7, 0.3}, {0.9, 0.2, 0.4});
  Overlap merged = Of({0.3}, {0.4});
  merged += Of({0.1, 0.7}, {0.9, 0.2});
  EXPECT_EQ(merged, whole);
}

TEST(OverlapTest, OfNothingIsUndefined) {
  EXPECT_TRUE(std::isnan(Of({0, 0}, {0, 0}).dice()));
  EXPECT_TRUE(std::isnan(Of({}, {}).iou()));
  EXPECT_EQ(Of({0, 0}, {0, 1}).dice(), 0);
}

}  // namespace
}  // namespace softloss::annotation
