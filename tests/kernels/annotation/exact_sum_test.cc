#include "kernels/annotation/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/testing/random.h"

namespace softloss::annotation {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Sum(const std::vector<double>& terms) {
  ExactSum sum;
  for (const double x : terms) sum += x;
  return sum.value();
}

TEST(ExactSumTest, KeepsWhatDoublesLose) {
  EXPECT_EQ(Sum({}), 0);
  EXPECT_EQ(Sum({1e16, 1, -1e16}), 1);
  EXPECT_EQ(Sum({0x1p54, 0x1p-72, -0x1p54}), 0x1p-72);
  EXPECT_EQ(Sum(std::vector<double>(10, 0.1)), 1.0);  // one by one, doubles make it less
  EXPECT_EQ(Sum({-0.0, 0.0}), 0);
}

TEST(ExactSumTest, TermsAreRoundedToTheNearestUnitAndTiesToEven) {
  const double unit = 0x1p-72;
  EXPECT_EQ(ExactSum(0.5 * unit).value(), 0);
  EXPECT_EQ(ExactSum(std::nextafter(0.5 * unit, 1)).value(), unit);
  EXPECT_EQ(ExactSum(1.5 * unit).value(), 2 * unit);
  EXPECT_EQ(ExactSum(2.5 * unit).value(), 2 * unit);
  EXPECT_EQ(ExactSum(-1.5 * unit).value(), -2 * unit);
  EXPECT_EQ(ExactSum(-2.5 * unit).value(), -2 * unit);
  EXPECT_EQ(ExactSum(0.25 * unit).value(), 0);
  EXPECT_EQ(ExactSum(std::numeric_limits<double>::denorm_min()).value(), 0);
  EXPECT_EQ(ExactSum(0x1.8p-20).value(), 0x1.8p-20);
}

TEST(ExactSumTest, TheValueIsRoundedCorrectly) {
  // 2^53 + 1 is between two doubles, and a tie; a little more is not.
  EXPECT_EQ(Sum({0x1p53, 1}), 0x1p53);
  EXPECT_EQ(Sum({0x1p53, 1, 0x1p-60}), 0x1p53 + 2);
  EXPECT_EQ(Sum({-0x1p53, -1, -0x1p-60}), -0x1p53 - 2);
}

TEST(ExactSumTest, AgreesWithLongDoublesWhereTheseAreExact) {
  testing::Random random(1);
  for (int round = 0; round < 200; ++round) {
    ExactSum sum;
    long double expected = 0;
    for (int i = 0; i < 50; ++i) {
      // 32 random bits between 2^-40 and 2^11: 64 bits hold any such sum.
      const double x = std::ldexp(static_cast<double>(random.Int(-(1LL << 31), 1LL << 31)),
                                  static_cast<int>(random.Int(-40, -19)));
      sum += x;
      expected += x;
    }
    EXPECT_EQ(sum.value(), static_cast<double>(expected));
  }
}

TEST(ExactSumTest, AnyOrderAndGroupingGivesTheSameBits) {
  testing::Random random(2);
  std::vector<double> terms(1000);
  for (double& x : terms) x = random.Normal() * std::exp(8 * random.Normal());
  ExactSum expected;
  for (const double x : terms) expected += x;
  ASSERT_TRUE(expected.valid());
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = terms.size(); i > 1; --i) {
      std::swap(terms[i - 1], terms[random.Int(0, static_cast<std::int64_t>(i))]);
    }
    std::vector<ExactSum> shards(7);
    for (const double x : terms) shards[random.Int(0, 7)] += x;
    ExactSum merged;
    for (const ExactSum& shard : shards) merged += shard;
    EXPECT_EQ(merged, expected);
    merged -= shards[3];
    merged += shards[3];
    EXPECT_EQ(merged, expected);
  }
}

TEST(ExactSumTest, CopiesAreAddedAtOnce) {
  ExactSum one_by_one, at_once;
  for (int i = 0; i < 1000; ++i) one_by_one += 0.1;
  at_once.Add(0.1, 1000);
  EXPECT_EQ(at_once, one_by_one);
  at_once.Add(0.1, -1000);
  EXPECT_EQ(at_once, ExactSum());
  at_once.Add(0x1p40, 0x1p40);
  EXPECT_FALSE(at_once.valid());
}

TEST(ExactSumTest, WhatHasNoSumIsInvalidForGood) {
  for (const double x : {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN(), 0x1p55,
                         -0x1p55, std::numeric_limits<double>::max()}) {
    ExactSum sum(1);
    sum += x;
    EXPECT_FALSE(sum.valid()) << x;
    EXPECT_TRUE(std::isnan(sum.value())) << x;
    sum += 1;
    sum.Add(1, 3);
    EXPECT_FALSE(sum.valid()) << x;
    ExactSum other(5);
    other += sum;
    EXPECT_FALSE(other.valid()) << x;
    other = ExactSum(5);
    other -= sum;
    EXPECT_FALSE(other.valid()) << x;
  }
}

TEST(ExactSumTest, LeavingTheRangeIsInvalid) {
  const double largest = std::nextafter(0x1p55, 0);
  EXPECT_EQ(ExactSum(largest).value(), largest);
  EXPECT_EQ(ExactSum(-largest).value(), -largest);
  EXPECT_TRUE(std::isnan(Sum({largest, largest})));
  EXPECT_TRUE(std::isnan(Sum({-largest, -largest})));
}

TEST(ExactSumTest, BytesGoThereAndBack) {
  testing::Random random(3);
  for (int round = 0; round < 100; ++round) {
    ExactSum sum(random.Normal() * std::exp(10 * random.Normal()));
    EXPECT_EQ(ExactSum::FromBytes(sum.ToBytes()), sum);
  }
  EXPECT_EQ(ExactSum(0x1p-72).ToBytes()[0], 1);
  EXPECT_EQ(ExactSum(1).ToBytes()[9], 1);
  EXPECT_EQ(ExactSum(-0x1p-72).ToBytes(),
            (std::array<char, 16>{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_FALSE(ExactSum::FromBytes(ExactSum(kInfinity).ToBytes()).valid());
}

TEST(WeightedMeanTest, HasAnEffectiveCount) {
  WeightedMean mean, other;
  EXPECT_TRUE(std::isnan(mean.mean()));
  EXPECT_TRUE(std::isnan(mean.effective_count()));
  mean.Add(1, 2);
  mean.Add(0, 2);
  EXPECT_EQ(mean.mean(), 0.5);
  EXPECT_EQ(mean.effective_count(), 2);
  other.Add(1, 4);
  mean += other;
  EXPECT_EQ(mean.count, 3);
  EXPECT_EQ(mean.mean(), 0.75);
  EXPECT_DOUBLE_EQ(mean.effective_count(), 64 / 24.0);
}

}  // namespace
}  // namespace softloss::annotation
