#include "kernels/annotation/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/annotation/cifar10.h"
#include "tests/kernels/annotation/vote_table.h"

namespace softloss::annotation {
namespace {

using testing::JsonNumber;
using testing::JsonNumbers;
using testing::Random;
using testing::RandomRow;

TEST(ReliabilityBinsTest, OfAnswersByHand) {
  ReliabilityBins bins(4);
  bins.Add(0, {0.75, 0.25});              // on an edge: the bin above
  bins.Add(1, {0.75, 0.25});              // wrong
  bins.Add(Row({0.5, 0.5}), {0.4, 0.6});  // half right
  bins.Add(0, {1, 0});                    // confidence 1: the last bin
  const std::vector<ReliabilityBins::Bin> curve = bins.Curve();
  ASSERT_EQ(curve.size(), 4u);
  EXPECT_EQ(curve[0].count, 0);
  EXPECT_TRUE(std::isnan(curve[0].confidence));
  EXPECT_TRUE(std::isnan(curve[0].accuracy));
  EXPECT_EQ(curve[2].low, 0.5);
  EXPECT_EQ(curve[2].high, 0.75);
  EXPECT_EQ(curve[2].count, 1);
  EXPECT_EQ(curve[2].confidence, 0.6);
  EXPECT_EQ(curve[2].accuracy, 0.5);
  EXPECT_EQ(curve[3].count, 3);
  EXPECT_DOUBLE_EQ(curve[3].confidence, 2.5 / 3);
  EXPECT_DOUBLE_EQ(curve[3].accuracy, 2 / 3.0);
  EXPECT_DOUBLE_EQ(bins.Error(), (0.1 + 0.5) / 4);
}

TEST(ReliabilityBinsTest, ShardsMergeToTheSameBitsInAnyOrder) {
  Random random(1);
  std::vector<ReliabilityBins> shards(3);
  ReliabilityBins whole;
  for (int i = 0; i < 1000; ++i) {
    const std::vector<double> q = RandomRow(random, 3), p = RandomRow(random, 3);
    whole.Add(q, p);
    shards[random.Int(0, 3)].Add(q, p);
  }
  ReliabilityBins forth = shards[0], back = shards[2];
  (forth += shards[1]) += shards[2];
  (back += shards[1]) += shards[0];
  EXPECT_EQ(forth, whole);
  EXPECT_EQ(back, whole);
}

TEST(ReliabilityBinsTest, NoAnswersHaveNoError) {
  EXPECT_TRUE(std::isnan(ReliabilityBins().Error()));
  EXPECT_TRUE(std::isnan(EqualMassCalibrationError({}, {})));
}

TEST(EqualMassTest, TheFirstBinsAreLongerAndEqualsStayInOrder) {
  // Sorted: 0.5, 0.6 (1), 0.6 (0), | 0.7, 0.8 | 0.9, 1.0; 7 answers in 3 bins.
  const std::vector<double> confidence = {1.0, 0.6, 0.8, 0.5, 0.6, 0.7, 0.9};
  const std::vector<double> accuracy = {1, 1, 0, 0, 0, 1, 1};
  EXPECT_DOUBLE_EQ(EqualMassCalibrationError(confidence, accuracy, 3),
                   (std::abs(1 - 1.7) + std::abs(1 - 1.5) + std::abs(2 - 1.9)) / 7);
  // 4 bins cut between the equals: 0.5, 0.6 (1) | 0.6 (0), 0.7 | 0.8, 0.9 | 1.
  EXPECT_DOUBLE_EQ(EqualMassCalibrationError(confidence, accuracy, 4), (0.1 + 0.3 + 0.7 + 0) / 7);
  // More bins than answers leaves some empty.
  EXPECT_DOUBLE_EQ(EqualMassCalibrationError({0.75}, {1}, 3), 0.25);
}

class CalibrationDataTest : public testing::Cifar10Test {};

TEST_F(CalibrationDataTest, ErrorsOfARealModel) {
  ReliabilityBins bins;
  std::vector<double> confidence, accuracy;
  for (std::size_t i = 0; i < label_.size(); ++i) {
    bins.Add(label_[i], row(i));
    const std::int32_t answer = ArgMax(row(i));
    confidence.push_back(row(i)[answer]);
    accuracy.push_back(answer == label_[i] ? 1 : 0);
  }
  EXPECT_NEAR(bins.Error(), JsonNumber(expected_, {"ece_15_equal_width_top1"}), 1e-12);
  EXPECT_NEAR(EqualMassCalibrationError(confidence, accuracy),
              JsonNumber(expected_, {"ece_15_equal_mass_top1"}), 1e-12);
  const std::vector<double> expected = JsonNumbers(expected_, {"ece_15_bins"});
  ASSERT_EQ(expected.size(), 45u);
  const std::vector<ReliabilityBins::Bin> curve = bins.Curve();
  for (std::size_t b = 0; b < 15; ++b) {
    EXPECT_EQ(static_cast<double>(curve[b].count), expected[3 * b]);
    if (curve[b].count == 0) continue;
    EXPECT_NEAR(curve[b].confidence, expected[3 * b + 1], 1e-12);
    EXPECT_NEAR(curve[b].accuracy, expected[3 * b + 2], 1e-12);
  }
}

}  // namespace
}  // namespace softloss::annotation
