#include "client/load/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/testing/random.h"

namespace softloss::load {
namespace {

using testing::Random;

TEST(LatencyHistogramTest, QuantilesAreThoseOfTheSortedValues) {
  Random random(1);
  for (const int count : {1, 2, 3, 10, 1000, 20'000}) {
    std::vector<std::int64_t> values;
    LatencyHistogram histogram, halves[2];
    for (int i = 0; i < count; ++i) {
      // Over many orders of magnitude.
      values.push_back(static_cast<std::int64_t>(std::exp2(41 * random.Uniform())) - 1);
      histogram.Record(values.back());
      halves[i % 2].Record(values.back());
    }
    std::sort(values.begin(), values.end());
    halves[0] += halves[1];
    for (const double q : {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = std::max<std::int64_t>(static_cast<std::int64_t>(std::ceil(q * count)), 1);
      const std::int64_t exact = values[rank - 1], found = histogram.Quantile(q);
      EXPECT_GE(found, exact);
      EXPECT_LE(static_cast<double>(found), 1.001 * static_cast<double>(exact));
      EXPECT_EQ(halves[0].Quantile(q), found);
    }
    EXPECT_EQ(histogram.count(), count);
    EXPECT_EQ(histogram.max(), values.back());
    EXPECT_EQ(histogram.Quantile(1), values.back());
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    EXPECT_NEAR(histogram.mean(), sum / count, 1e-9 * sum);
  }
}

TEST(LatencyHistogramTest, SmallValuesAreExact) {
  LatencyHistogram histogram;
  for (int v = 0; v < 2048; ++v) histogram.Record(v);
  for (int v = 0; v < 2048; ++v) EXPECT_EQ(histogram.Quantile((v + 1) / 2048.0), v);
  EXPECT_EQ(histogram.CountAbove(2046), 1);
  EXPECT_EQ(histogram.CountAbove(0), 2047);
}

TEST(LatencyHistogramTest, WhatIsOutOfRangeIsAtTheEnds) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  EXPECT_EQ(histogram.mean(), 0);
  histogram.Record(-5);
  EXPECT_EQ(histogram.Quantile(1), 0);
  histogram.Record(INT64_MAX);
  EXPECT_EQ(histogram.max(), LatencyHistogram::kLargest);
  EXPECT_EQ(histogram.Quantile(1), LatencyHistogram::kLargest);
}

}  // namespace
}  // namespace softloss::load
