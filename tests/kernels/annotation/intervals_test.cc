#include "kernels/annotation/intervals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/testing/random.h"

namespace softloss::annotation {
namespace {

using testing::Random;

TEST(WilsonTest, IsTheRootOfTheScoreTest) {
  // The ends p of the interval solve (share − p)² = z² p (1 − p)/n.
  for (const double n : {1.0, 10.0, 123.5, 1e6}) {
    for (const double share : {0.0, 0.1, 0.5, 0.93, 1.0}) {
      const Interval interval = WilsonInterval(share, n);
      for (const double p : {interval.low, interval.high}) {
        EXPECT_NEAR((share - p) * (share - p), kZ95 * kZ95 * p * (1 - p) / n, 1e-14);
      }
      EXPECT_LE(interval.low, share);
      EXPECT_GE(interval.high, share);
      EXPECT_GE(interval.low, 0);
      EXPECT_LE(interval.high, 1);
    }
  }
  // 15 of 20: (0.5313, 0.8881), as tables have it.
  EXPECT_NEAR(WilsonInterval(0.75, 20).low, 0.5313, 5e-5);
  EXPECT_NEAR(WilsonInterval(0.75, 20).high, 0.8881, 5e-5);
}

TEST(WilsonTest, NothingCountedIsUndefined) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double n : {0.0, -1.0, kNan}) {
    EXPECT_TRUE(std::isnan(WilsonInterval(0.5, n).low));
    EXPECT_TRUE(std::isnan(WilsonInterval(0.5, n).high));
  }
  EXPECT_TRUE(std::isnan(WilsonInterval(kNan, 10).low));
  EXPECT_EQ(WilsonInterval(1 + 1e-15, 10).high, 1);
}

// How often, of 1000 surveys of 40 answers, the interval holds the truth: about 95 %. The binomial
// numbers jump, so that the share does, too.
TEST(WilsonTest, CoversTheTruth) {
  Random random(1);
  for (const double truth : {0.1, 0.5, 0.8}) {
    int covered = 0;
    for (int survey = 0; survey < 1000; ++survey) {
      int yes = 0;
      for (int i = 0; i < 40; ++i) yes += random.Chance(truth);
      const Interval interval = WilsonInterval(yes / 40.0, 40);
      covered += interval.low <= truth && truth <= interval.high;
    }
    EXPECT_GE(covered, 925) << truth;
    EXPECT_LE(covered, 980) << truth;
  }
}

// Weights make for fewer effective answers, and the interval still covers.
TEST(WilsonTest, CoversTheTruthOfWeightedShares) {
  Random random(2);
  int covered = 0;
  for (int survey = 0; survey < 1000; ++survey) {
    WeightedMean mean;
    for (int i = 0; i < 100; ++i) mean.Add(random.Chance(0.7), random.Chance(0.5) ? 1 : 5);
    const Interval interval = WilsonInterval(mean.mean(), mean.effective_count());
    covered += interval.low <= 0.7 && 0.7 <= interval.high;
  }
  EXPECT_GE(covered, 925);
  EXPECT_LE(covered, 975);
}

TEST(PoissonDrawsTest, ArePoissonOfMeanOne) {
  constexpr int kItems = 20'000, kDraws = 50;
  std::vector<double> share(8);
  double sum = 0, squares = 0;
  std::vector<std::uint8_t> draws(kDraws);
  for (std::uint64_t item = 0; item < kItems; ++item) {
    PoissonDraws(item, absl::MakeSpan(draws));
    for (const std::uint8_t draw : draws) {
      ASSERT_LT(draw, 8);
      share[draw] += 1.0 / (kItems * kDraws);
      sum += draw;
      squares += draw * draw;
    }
  }
  double expected = std::exp(-1);
  for (int k = 0; k < 5; ++k) {
    EXPECT_NEAR(share[k], expected, 0.003) << k;
    expected /= k + 1;
  }
  const double mean = sum / (kItems * kDraws);
  EXPECT_NEAR(mean, 1, 0.005);
  EXPECT_NEAR(squares / (kItems * kDraws) - mean * mean, 1, 0.01);
}

TEST(PoissonDrawsTest, NeitherItemsNorReplicatesAreAlike) {
  // Correlations of 20,000 pairs of independent draws are below 0.03 (four standard errors).
  constexpr int kItems = 20'000;
  double next_item = 0, next_replicate = 0, next_hash = 0;
  std::vector<std::uint8_t> draws(8), others(8);
  for (std::uint64_t item = 0; item < kItems; ++item) {
    PoissonDraws(item, absl::MakeSpan(draws));
    PoissonDraws(item + 1, absl::MakeSpan(others));
    next_item += (draws[0] - 1.0) * (others[0] - 1.0) / kItems;
    next_replicate += (draws[0] - 1.0) * (draws[1] - 1.0) / kItems;
    next_hash += (draws[0] - 1.0) * (draws[4] - 1.0) / kItems;
  }
  EXPECT_NEAR(next_item, 0, 0.03);
  EXPECT_NEAR(next_replicate, 0, 0.03);
  EXPECT_NEAR(next_hash, 0, 0.03);
}

// State files hold what was drawn.
TEST(PoissonDrawsTest, AreFixedForAllTime) {
  std::vector<std::uint8_t> draws(24);
  PoissonDraws(12345, absl::MakeSpan(draws));
  EXPECT_EQ(draws, (std::vector<std::uint8_t>{2, 1, 1, 0, 0, 2, 3, 1, 0, 1, 1, 0,
                                              0, 0, 0, 1, 1, 0, 1, 0, 2, 1, 1, 0}));
}

TEST(PoissonDrawsTest, MoreReplicatesStartWithTheSame) {
  std::vector<std::uint8_t> few(10), many(300);
  PoissonDraws(7, absl::MakeSpan(few));
  PoissonDraws(7, absl::MakeSpan(many));
  EXPECT_EQ(few, std::vector<std::uint8_t>(many.begin(), many.begin() + 10));
}

TEST(MeanBootstrapTest, AddsWhatWasDrawn) {
  MeanBootstrap two(2, 3), first(1, 3), second(1, 3);
  std::vector<std::vector<std::uint8_t>> draws(4, std::vector<std::uint8_t>(3));
  double low = 1, high = 0;
  for (std::uint64_t item = 0; item < 4; ++item) {
    PoissonDraws(item, absl::MakeSpan(draws[item]));
    const double x = static_cast<double>(item) / 4, w = static_cast<double>(item + 1);
    two.Add(item, {x, 1 - x}, w);
    first.Add(item, x, w);
    second.Add(item, 1 - x, w);
  }
  for (int b = 0; b < 3; ++b) {
    double sum = 0, weight = 0;
    for (int item = 0; item < 4; ++item) {
      sum += draws[item][b] * (item + 1) * item / 4.0;
      weight += draws[item][b] * (item + 1);
    }
    low = std::min(low, sum / weight);
    high = std::max(high, sum / weight);
  }
  EXPECT_DOUBLE_EQ(two.Percentiles(0, 1).low, low);
  EXPECT_DOUBLE_EQ(two.Percentiles(0, 1).high, high);
  EXPECT_EQ(two.Percentiles(0).low, first.Percentiles().low);
  EXPECT_EQ(two.Percentiles(1).high, second.Percentiles().high);
}

TEST(MeanBootstrapTest, ShardsMergeToTheSameBitsInAnyOrder) {
  Random random(3);
  std::vector<MeanBootstrap> shards(3);
  MeanBootstrap whole;
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t item = ItemKey("item " + std::to_string(i));
    const double x = random.Normal(), w = random.Uniform();
    whole.Add(item, x, w);
    shards[random.Int(0, 3)].Add(item, x, w);
  }
  MeanBootstrap merged = shards[1];
  (merged += shards[2]) += shards[0];
  EXPECT_EQ(merged, whole);
}

TEST(MeanBootstrapTest, CoversTheTruth) {
  Random random(4);
  int covered = 0;
  double width = 0;
  for (int survey = 0; survey < 400; ++survey) {
    MeanBootstrap bootstrap;
    for (int i = 0; i < 80; ++i) {
      const double x = -std::log(1 - random.Uniform());  // of mean and deviation 1
      bootstrap.Add(random.Bits(), x);
    }
    const Interval interval = bootstrap.Percentiles();
    covered += interval.low <= 1 && 1 <= interval.high;
    width += (interval.high - interval.low) / 400;
  }
  // A little less than 95 %: the percentile bootstrap of 80 skewed values.
  EXPECT_GE(covered, 0.90 * 400);
  EXPECT_LE(covered, 0.98 * 400);
  EXPECT_NEAR(width, 2 * kZ95 / std::sqrt(80), 0.03);
}

TEST(MeanBootstrapTest, NothingCountedIsUndefined) {
  EXPECT_TRUE(std::isnan(MeanBootstrap().Percentiles().low));
  MeanBootstrap constant;
  for (std::uint64_t item = 0; item < 9; ++item) constant.Add(item, 3);
  EXPECT_EQ(constant.Percentiles().low, 3);
  EXPECT_EQ(constant.Percentiles().high, 3);
}

TEST(ItemKeyTest, IsFixedForAllTime) {
  // State files hold what was drawn by it.
  EXPECT_NE(ItemKey("a"), ItemKey("b"));
  EXPECT_EQ(ItemKey(""), 0xf52a15e9a9b5e89bu);
  EXPECT_EQ(ItemKey("item 1"), 0x8c3142c31679085u);
}

}  // namespace
}  // namespace softloss::annotation
