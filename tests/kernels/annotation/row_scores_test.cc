#include "kernels/annotation/row_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "kernels/annotation/exact_sum.h"
#include "tests/kernels/annotation/cifar10.h"
#include "tests/kernels/annotation/real_data.h"
#include "tests/kernels/annotation/vote_table.h"

namespace softloss::annotation {
namespace {

using testing::JsonNumber;
using testing::JsonNumbers;
using testing::Random;
using testing::RandomRow;

std::vector<double> OneHot(int classes, int label) {
  std::vector<double> row(classes);
  row[label] = 1;
  return row;
}

TEST(RowScoresTest, OfRowsByHand) {
  const std::vector<double> q = {0.5, 0.25, 0.25}, p = {0.1, 0.6, 0.3};
  EXPECT_DOUBLE_EQ(SelfConfidence(q, p), 0.275);
  // Margins of the classes: (0.1 − 0.6 + 1)/2, (0.6 − 0.3 + 1)/2, (0.3 − 0.6 + 1)/2.
  EXPECT_DOUBLE_EQ(NormalizedMargin(q, p), 0.5 * 0.25 + 0.25 * 0.65 + 0.25 * 0.35);
  EXPECT_DOUBLE_EQ(Brier(q, p), 0.16 + 0.1225 + 0.0025);
  EXPECT_DOUBLE_EQ(TotalVariation(q, p), (0.4 + 0.35 + 0.05) / 2);
  EXPECT_DOUBLE_EQ(Entropy(q), 1.5 * std::numbers::ln2);
  const double entropy = -0.1 * std::log(0.1) - 0.6 * std::log(0.6) - 0.3 * std::log(0.3);
  const double h = entropy / std::log(3) / 0.275;
  EXPECT_DOUBLE_EQ(ConfidenceWeightedEntropy(q, p), std::log(1 + h) / h);
  EXPECT_DOUBLE_EQ(CrossEntropy(q, p),
                   -0.5 * std::log(0.1) - 0.25 * std::log(0.6) - 0.25 * std::log(0.3));
  EXPECT_EQ(ArgMax({0.4, 0.4, 0.2}), 0);
}

TEST(RowScoresTest, OneHotRowsAreHardLabels) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    const int classes = static_cast<int>(random.Int(2, 9));
    const auto label = static_cast<std::int32_t>(random.Int(0, classes));
    const std::vector<double> p = RandomRow(random, classes), q = OneHot(classes, label);
    EXPECT_EQ(SelfConfidence(q, p), SelfConfidence(label, p));
    EXPECT_EQ(NormalizedMargin(q, p), NormalizedMargin(label, p));
    EXPECT_EQ(ConfidenceWeightedEntropy(q, p), ConfidenceWeightedEntropy(label, p));
    EXPECT_EQ(CrossEntropy(q, p), CrossEntropy(label, p));
  }
}

TEST(RowScoresTest, Identities) {
  Random random(2);
  for (int round = 0; round < 500; ++round) {
    const int classes = static_cast<int>(random.Int(2, 9));
    const std::vector<double> q = RandomRow(random, classes), p = RandomRow(random, classes);
    EXPECT_NEAR(CrossEntropy(q, p), Entropy(q) + KlDivergence(q, p), 1e-12);
    std::vector<double> mean(classes);
    for (int k = 0; k < classes; ++k) mean[k] = (q[k] + p[k]) / 2;
    EXPECT_NEAR(JensenShannon(q, p), Entropy(mean) - (Entropy(q) + Entropy(p)) / 2, 1e-12);
    EXPECT_EQ(JensenShannon(q, q), 0);
    EXPECT_EQ(KlDivergence(mean, mean), 0);
    EXPECT_EQ(Brier(p, p), 0);
    EXPECT_LE(TotalVariation(q, p), 1 + 1e-15);
  }
}

TEST(RowScoresTest, Zeros) {
  const std::vector<double> q = {1, 0}, p = {0, 1};
  const double floor = 52 * std::numbers::ln2;  // −ln 2^-52
  EXPECT_DOUBLE_EQ(CrossEntropy(q, p), floor);
  EXPECT_DOUBLE_EQ(CrossEntropy(0, p), floor);
  EXPECT_DOUBLE_EQ(KlDivergence(q, p), floor);
  EXPECT_DOUBLE_EQ(JensenShannon(q, p), std::numbers::ln2);
  EXPECT_EQ(Entropy(q), 0);
  EXPECT_EQ(SelfConfidence(q, p), 0);
  EXPECT_EQ(NormalizedMargin(q, p), 0);
  EXPECT_EQ(NormalizedMargin(p, p), 1);
  EXPECT_EQ(Brier(q, p), 2);
  EXPECT_EQ(TotalVariation(q, p), 1);
  EXPECT_EQ(ConfidenceWeightedEntropy(q, p), 0);  // H(P) is 0: the floor of the quotient
  // Confidence 0 is taken at 1e-6: h = 1e6.
  const std::vector<double> third = {0, 0.5, 0.5};
  const double h = std::numbers::ln2 / std::log(3) / 1e-6;
  EXPECT_DOUBLE_EQ(ConfidenceWeightedEntropy(0, third), std::log(1 + h) / h);
}

TEST(RowScoresTest, OfManyLabelsTheLowestCountsMost) {
  // cleanlab's example: an exponential average of 0.3, 0.2, 0.1.
  EXPECT_DOUBLE_EQ(MultiLabelScore({1, 1, 1}, {0.1, 0.2, 0.3}, 0.5), 0.175);
  // A label that is not given counts by what the model leaves for "no".
  EXPECT_DOUBLE_EQ(MultiLabelScore({1, 0, 1}, {0.9, 0.25, 0.5}),
                   0.8 * 0.5 + 0.2 * (0.8 * 0.75 + 0.2 * 0.9));
  EXPECT_DOUBLE_EQ(MultiLabelScore({0.5, 1}, {0.9, 0.5}), 0.5);
}

TEST(RowScoresTest, AdjustedProbabilities) {
  std::vector<double> p = {0.7, 0.2, 0.1};
  const std::vector<double> t = {0.9, 0.5, 0.6};
  AdjustProbabilities(p, t, absl::MakeSpan(p));  // (0.7, 0.6, 0.4)/1.7
  EXPECT_NEAR(p[0], 0.7 / 1.7, 1e-15);
  EXPECT_NEAR(p[1], 0.6 / 1.7, 1e-15);
  EXPECT_NEAR(p[2], 0.4 / 1.7, 1e-15);
}

// Scores of a real model on CIFAR-10's labels, as cleanlab and scikit-learn have them.
class Cifar10ScoresTest : public testing::Cifar10Test {
 protected:
  template <typename Score>
  void Check(const std::string& name, Score score) {
    WeightedMean mean;
    std::vector<double> scores;
    for (std::size_t i = 0; i < label_.size(); ++i) {
      scores.push_back(score(label_[i], row(i)));
      EXPECT_NEAR(scores[i], score(absl::MakeConstSpan(OneHot(kClasses, label_[i])), row(i)),
                  1e-15);
      mean.Add(scores[i]);
    }
    EXPECT_NEAR(mean.mean(), JsonNumber(expected_, {name, "mean"}), 1e-12) << name;
    const std::vector<double> first = JsonNumbers(expected_, {name, "first20"});
    ASSERT_EQ(first.size(), 20u);
    for (std::size_t i = 0; i < 20; ++i) EXPECT_NEAR(scores[i], first[i], 1e-12) << name << i;
    if (name.find("adjusted") != std::string::npos) return;  // no list of lowest is known
    std::vector<double> order(scores.size());
    std::iota(order.begin(), order.end(), 0.0);
    std::stable_sort(order.begin(), order.end(), [&scores](double a, double b) {
      return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
    });
    order.resize(20);
    EXPECT_EQ(order, JsonNumbers(expected_, {name, "lowest20_index"})) << name;
  }
};

TEST_F(Cifar10ScoresTest, AreThoseOfOthers) {
  Check("self_confidence", [](auto label, Row p) { return SelfConfidence(label, p); });
  Check("normalized_margin", [](auto label, Row p) { return NormalizedMargin(label, p); });
  Check("confidence_weighted_entropy",
        [](auto label, Row p) { return ConfidenceWeightedEntropy(label, p); });
  const std::vector<double> t = JsonNumbers(expected_, {"confident_thresholds"});
  std::vector<double> adjusted(kClasses);
  const auto adjust = [&](Row p) {
    AdjustProbabilities(p, t, absl::MakeSpan(adjusted));
    return Row(adjusted);
  };
  Check("self_confidence_adjusted",
        [&](auto label, Row p) { return SelfConfidence(label, adjust(p)); });
  Check("normalized_margin_adjusted",
        [&](auto label, Row p) { return NormalizedMargin(label, adjust(p)); });
}

TEST_F(Cifar10ScoresTest, LossesAndEntropies) {
  WeightedMean log_loss, brier;
  for (std::size_t i = 0; i < label_.size(); ++i) {
    log_loss.Add(CrossEntropy(label_[i], row(i)));
    brier.Add(Brier(OneHot(kClasses, label_[i]), row(i)));
  }
  EXPECT_NEAR(log_loss.mean(), JsonNumber(expected_, {"log_loss_sklearn"}), 1e-12);
  EXPECT_NEAR(brier.mean(), JsonNumber(expected_, {"brier_multiclass"}), 1e-12);
  const std::vector<double> t = JsonNumbers(expected_, {"confident_thresholds"});
  const std::vector<double> known = JsonNumbers(expected_, {"ood_entropy_first20"});
  std::vector<double> adjusted(kClasses);
  ASSERT_EQ(known.size(), 20u);
  for (std::size_t i = 0; i < known.size(); ++i) {
    AdjustProbabilities(row(i), t, absl::MakeSpan(adjusted));
    EXPECT_NEAR(InDistribution(adjusted), known[i], 1e-12);
  }
}

}  // namespace
}  // namespace softloss::annotation
