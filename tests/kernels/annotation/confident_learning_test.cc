#include "kernels/annotation/confident_learning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "tests/kernels/annotation/cifar10.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::JsonNumber;
using testing::JsonNumbers;
using testing::Random;
using testing::RandomRow;

// Labels and predictions of which some are plainly at odds.
struct Labelled {
  Labelled(Random& random, int classes, int items) : classes(classes) {
    for (int i = 0; i < items; ++i) {
      label.push_back(static_cast<std::int32_t>(random.Int(0, classes)));
      std::vector<double> row = RandomRow(random, classes);
      for (double& x : row) x *= 0.4;
      row[random.Chance(0.8) ? label.back() : random.Int(0, classes)] += 0.6;
      p.insert(p.end(), row.begin(), row.end());
    }
  }
  Row row(std::size_t i) const { return absl::MakeConstSpan(p).subspan(i * classes, classes); }
  std::vector<std::uint8_t> Issues(IssueOptions options) const {
    InlineExecutor executor;
    const auto found = FindLabelIssues(classes, label, p, options, executor);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? found->issue : std::vector<std::uint8_t>();
  }

  int classes;
  std::vector<std::int32_t> label;
  std::vector<double> p;
};

TEST(ConfidentThresholdsTest, AreMeansByClass) {
  ConfidentThresholds t(3);
  t.Add(0, {0.5, 0.25, 0.25});
  t.Add(0, {1, 0, 0});
  t.Add(2, {1, 0, 0});
  EXPECT_THAT(t.Finish(), ElementsAre(0.75, 2, 2e-6));
  t.Add(Row({0, 0.5, 0.5}), {0, 0.5, 0.5});
  EXPECT_THAT(t.Finish(), ElementsAre(0.75, 0.5, 0.25 / 1.5));
  EXPECT_EQ(t.labels(2), 1.5);
}

TEST(ConfidentClassTest, IsTheOnlySureOneOrTheLikeliest) {
  const std::vector<double> t = {0.3, 0.5, 0.9};
  EXPECT_EQ(ConfidentClass({0.2, 0.2, 0.6}, t), -1);
  EXPECT_EQ(ConfidentClass({0.3, 0.1, 0.6}, t), 0);  // although another is likelier
  EXPECT_EQ(ConfidentClass({0.4, 0.6, 0.0}, t), 1);  // both are; 1 is likelier
  EXPECT_EQ(ConfidentClass({0.2, 0.5 - 5e-7, 0.3}, t), 1);
  EXPECT_EQ(ConfidentClass({0.2, 0.5 - 2e-6, 0.3}, t), -1);
}

TEST(ConfidentJointTest, OneHotLabelsAreHardLabels) {
  Random random(1);
  const Labelled data(random, 4, 300);
  ConfidentThresholds hard_t(4), soft_t(4);
  std::vector<double> one_hot(4);
  const auto rows = [&](std::size_t i) {
    std::fill(one_hot.begin(), one_hot.end(), 0.0);
    one_hot[data.label[i]] = 1;
    return Row(one_hot);
  };
  for (std::size_t i = 0; i < data.label.size(); ++i) {
    hard_t.Add(data.label[i], data.row(i));
    soft_t.Add(rows(i), data.row(i));
  }
  EXPECT_EQ(hard_t, soft_t);
  ConfidentJoint hard(hard_t.Finish()), soft(hard_t.Finish());
  for (std::size_t i = 0; i < data.label.size(); ++i) {
    hard.Add(data.label[i], data.row(i));
    soft.Add(rows(i), data.row(i));
  }
  EXPECT_EQ(hard, soft);
  const std::vector<double> joint = hard.Calibrated();
  for (int c = 0; c < 4; ++c) {
    EXPECT_NEAR(std::accumulate(joint.begin() + 4 * c, joint.begin() + 4 * (c + 1), 0.0),
                hard_t.labels(c), 1e-10);
  }
}

TEST(ConfidentJointTest, ShardsMergeToTheSameBitsInAnyOrder) {
  Random random(2);
  std::vector<ConfidentThresholds> t(3, ConfidentThresholds(3));
  ConfidentThresholds all(3);
  std::vector<std::vector<double>> q, p;
  std::vector<std::size_t> shard;
  for (int i = 0; i < 500; ++i) {
    q.push_back(RandomRow(random, 3));
    p.push_back(RandomRow(random, 3));
    shard.push_back(random.Int(0, 3));
    t[shard.back()].Add(q[i], p[i]);
    all.Add(q[i], p[i]);
  }
  ConfidentThresholds merged = t[2];
  (merged += t[0]) += t[1];
  EXPECT_EQ(merged, all);
  std::vector<ConfidentJoint> joint(3, ConfidentJoint(all.Finish()));
  ConfidentJoint whole(all.Finish());
  for (int i = 0; i < 500; ++i) {
    joint[shard[i]].Add(q[i], p[i]);
    whole.Add(q[i], p[i]);
  }
  ConfidentJoint back = joint[2];
  (back += joint[1]) += joint[0];
  EXPECT_EQ(back, whole);
}

TEST(RoundKeepingSumTest, WhoeverWasRoundedFurthestGivesWay) {
  EXPECT_THAT(RoundKeepingSum({1.4, 2.3, 3.3}), ElementsAre(2, 2, 3));
  EXPECT_THAT(RoundKeepingSum({1.6, 2.7, 3.7}), ElementsAre(1, 3, 4));
  EXPECT_THAT(RoundKeepingSum({0.5, 1.5}), ElementsAre(0, 2));
  EXPECT_THAT(RoundKeepingSum({4, 0, 1}), ElementsAre(4, 0, 1));
  EXPECT_THAT(RoundKeepingSum({}), ElementsAre());
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    std::vector<double> row(random.Int(1, 30));
    for (double& x : row) x = random.Uniform() * 10;
    const std::vector<std::int64_t> rounded = RoundKeepingSum(row);
    EXPECT_EQ(std::accumulate(rounded.begin(), rounded.end(), std::int64_t{0}),
              std::llrint(std::accumulate(row.begin(), row.end(), 0.0)));
    for (std::size_t i = 0; i < row.size(); ++i) {
      EXPECT_LT(std::abs(row[i] - static_cast<double>(rounded[i])), 1);
    }
  }
}

TEST(EstimateNoiseTest, OfAJointByHand) {
  const NoiseEstimates noise = EstimateNoise({6, 2, 1, 11}, 2);
  EXPECT_THAT(noise.joint, ElementsAre(0.3, 0.1, 0.05, 0.55));
  EXPECT_NEAR(noise.label_noise[0], 2 / 8.0, 1e-15);
  EXPECT_NEAR(noise.label_noise[1], 1 / 12.0, 1e-15);
  EXPECT_NEAR(noise.inverse_noise[0], 1 / 7.0, 1e-15);
  EXPECT_NEAR(noise.inverse_noise[1], 2 / 13.0, 1e-15);
  EXPECT_NEAR(noise.right, 0.85, 1e-15);
}

TEST(LabelIssuesTest, OfTwelveItemsByHand) {
  // Class 0: t = 0.6; class 1: t = 0.75. Items 4 and 5 are surely 1, item 11 is surely 0.
  const std::vector<double> p0 = {0.9, 0.9, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.9};
  const std::vector<std::int32_t> label = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  std::vector<double> p;
  for (const double x : p0) p.insert(p.end(), {x, 1 - x});
  InlineExecutor executor;
  for (const IssueFilter filter :
       {IssueFilter::kPruneByNoiseRate, IssueFilter::kPruneByClass, IssueFilter::kBoth,
        IssueFilter::kConfidentLearning, IssueFilter::kPredictedNeqGiven,
        IssueFilter::kLowSelfConfidence, IssueFilter::kLowNormalizedMargin}) {
    const auto found = FindLabelIssues(2, label, p, {.filter = filter}, executor);
    ASSERT_TRUE(found.ok());
    EXPECT_THAT(found->issue, ElementsAre(0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1))
        << static_cast<int>(filter);
    EXPECT_NEAR(found->thresholds[0], 0.6, 1e-15);
    EXPECT_NEAR(found->thresholds[1], 0.75, 1e-15);
    EXPECT_THAT(found->joint_counts, ElementsAre(4, 2, 1, 5));
  }
  // Half the noise; the earlier of equals.
  IssueOptions half = {.frac_noise = 0.5};
  EXPECT_THAT(FindLabelIssues(2, label, p, half, executor)->issue,
              ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0));
  // Five of class 0 have to stay, and six of six are too few to take any.
  IssueOptions keep = {.min_items_per_class = 5};
  EXPECT_THAT(FindLabelIssues(2, label, p, keep, executor)->issue,
              ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1));
  keep.min_items_per_class = 6;
  EXPECT_THAT(FindLabelIssues(2, label, p, keep, executor)->issue, ::testing::Each(0));
}

TEST(LabelIssuesTest, ThreadsChangeNothing) {
  Random random(4);
  const Labelled data(random, 7, 20'000);
  InlineExecutor one;
  testing::ThreadExecutor four(4);
  for (const IssueFilter filter : {IssueFilter::kBoth, IssueFilter::kLowNormalizedMargin}) {
    const auto a = FindLabelIssues(7, data.label, data.p, {.filter = filter}, one);
    const auto b = FindLabelIssues(7, data.label, data.p, {.filter = filter}, four);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(a->issue, b->issue);
    EXPECT_EQ(a->thresholds, b->thresholds);
    EXPECT_EQ(a->joint_counts, b->joint_counts);
    EXPECT_GT(std::count(a->issue.begin(), a->issue.end(), 1), 1000);
  }
}

TEST(LabelIssuesTest, PlantedFlipsAreFound) {
  Random random(5);
  std::vector<std::int32_t> label;
  std::vector<double> p;
  std::vector<std::uint8_t> flipped;
  for (int i = 0; i < 2000; ++i) {
    const int truth = static_cast<int>(random.Int(0, 4));
    flipped.push_back(random.Chance(0.1));
    label.push_back((truth + flipped.back()) % 4);
    std::vector<double> row = RandomRow(random, 4);
    for (double& x : row) x *= 0.3;
    row[truth] += 0.7;
    p.insert(p.end(), row.begin(), row.end());
  }
  InlineExecutor executor;
  const auto found =
      FindLabelIssues(4, label, p, {.filter = IssueFilter::kPredictedNeqGiven}, executor);
  EXPECT_EQ(found->issue, flipped);  // the likeliest class is the truth
  const auto pruned = FindLabelIssues(4, label, p, {}, executor);
  int right = 0, wrong = 0;
  for (std::size_t i = 0; i < flipped.size(); ++i) {
    if (pruned->issue[i] != 0) ++(flipped[i] != 0 ? right : wrong);
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(right, 0.8 * static_cast<double>(std::count(flipped.begin(), flipped.end(), 1)));
}

TEST(LabelIssuesTest, EdgesAreDefined) {
  InlineExecutor executor;
  EXPECT_THAT(FindLabelIssues(2, {}, {}, {}, executor)->issue, ElementsAre());
  // One class only.
  const auto one = FindLabelIssues(2, {0, 0, 0}, {1, 0, 0.9, 0.1, 0.2, 0.8}, {}, executor);
  ASSERT_TRUE(one.ok());
  EXPECT_THAT(one->issue, ElementsAre(0, 0, 0));
  EXPECT_EQ(one->thresholds[1], ConfidentThresholds::kOfNoLabels);
}

TEST(LabelIssuesTest, BadInputIsNamed) {
  InlineExecutor executor;
  const auto error = [&](int classes, std::vector<std::int32_t> label, std::vector<double> p,
                         IssueOptions options) {
    return std::string(FindLabelIssues(classes, label, p, options, executor).status().message());
  };
  EXPECT_EQ(error(1, {}, {}, {}), "num_classes: must be at least 2; was 1");
  EXPECT_EQ(error(2, {0}, {1}, {}), "probabilities: must have 2 values a label (1); has 1");
  EXPECT_EQ(error(2, {2}, {1, 0}, {}), "label[0]: must be from 0 to 1; was 2");
  EXPECT_EQ(error(2, {-1}, {1, 0}, {}), "label[0]: must be from 0 to 1; was -1");
  EXPECT_EQ(error(2, {0}, {1, 0}, {.frac_noise = 1.5}), "frac_noise: must be from 0 to 1; was 1.5");
  EXPECT_EQ(error(2, {0}, {1, 0}, {.min_items_per_class = -1}),
            "min_items_per_class: must not be negative; was -1");
}

class LabelIssuesDataTest : public testing::Cifar10Test {};

TEST_F(LabelIssuesDataTest, AreAsManyAsCleanlabFinds) {
  testing::ThreadExecutor executor(2);
  const std::vector<std::pair<IssueFilter, std::string>> filters = {
      {IssueFilter::kPruneByNoiseRate, "issues_prune_by_noise_rate"},
      {IssueFilter::kPruneByClass, "issues_prune_by_class"},
      {IssueFilter::kBoth, "issues_both"},
      {IssueFilter::kConfidentLearning, "issues_confident_learning"},
      {IssueFilter::kPredictedNeqGiven, "issues_predicted_neq_given"},
      {IssueFilter::kLowSelfConfidence, "issues_low_self_confidence"},
      {IssueFilter::kLowSelfConfidence, "num_label_issues_off_diagonal"}};
  for (const auto& [filter, name] : filters) {
    const auto found = FindLabelIssues(kClasses, label_, p_, {.filter = filter}, executor);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(static_cast<double>(std::count(found->issue.begin(), found->issue.end(), 1)),
              JsonNumber(expected_, {name}))
        << name;
    if (filter == IssueFilter::kConfidentLearning) {
      const auto issues =
          static_cast<double>(std::count(found->issue.begin(), found->issue.end(), 1));
      EXPECT_NEAR(1 - issues / static_cast<double>(label_.size()),
                  JsonNumber(expected_, {"overall_health"}), 1e-12);
    }
  }
}

TEST_F(LabelIssuesDataTest, ThresholdsJointAndNoiseAreCleanlabs) {
  testing::ThreadExecutor executor(2);
  const auto found = FindLabelIssues(kClasses, label_, p_, {}, executor);
  ASSERT_TRUE(found.ok());
  const std::vector<double> thresholds = JsonNumbers(expected_, {"confident_thresholds"});
  for (int k = 0; k < kClasses; ++k) EXPECT_NEAR(found->thresholds[k], thresholds[k], 1e-12);

  ConfidentJoint joint(found->thresholds);
  for (std::size_t i = 0; i < label_.size(); ++i) joint.Add(label_[i], row(i));
  EXPECT_EQ(joint.Counts(), JsonNumbers(expected_, {"confident_joint_uncalibrated"}));

  std::vector<double> counts(found->joint_counts.begin(), found->joint_counts.end());
  const NoiseEstimates noise = EstimateNoise(counts, kClasses);
  const std::vector<double> shares = JsonNumbers(expected_, {"joint"});
  for (std::size_t i = 0; i < shares.size(); ++i) EXPECT_NEAR(noise.joint[i], shares[i], 1e-12);
  double diagonal = 0;
  for (std::size_t k = 0; k < kClasses; ++k) diagonal += shares[k * (kClasses + 1)];
  EXPECT_NEAR(noise.right, diagonal, 1e-12);
  for (int k = 0; k < kClasses; ++k) {
    const std::string name = std::to_string(k);
    EXPECT_NEAR(noise.label_noise[k],
                JsonNumber(expected_, {"class_label_quality", name, "label_noise"}), 1e-12);
    EXPECT_NEAR(noise.inverse_noise[k],
                JsonNumber(expected_, {"class_label_quality", name, "inverse_label_noise"}), 1e-12);
  }
}

}  // namespace
}  // namespace softloss::annotation
