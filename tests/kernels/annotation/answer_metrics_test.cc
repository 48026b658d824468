#include "kernels/annotation/answer_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/annotation/majority.h"
#include "tests/kernels/annotation/aggregation_cases.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::ExpectAllNear;
using ::softloss::testing::RandomTable;
using ::softloss::testing::VoteTable;

InlineExecutor here;

double Mean(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

// The example of crowd-kit's tests: five people, five questions, no or yes.
VoteTable Toy() {
  VoteTable t;
  const char* const answers[] = {"nyyyy", "yynyn", " ynyn", "ynyyn", "nnnyn"};
  for (int r = 0; r < 5; ++r) {
    for (int i = 0; i < 5; ++i) {
      if (answers[r][i] != ' ') t.Add(i, r, answers[r][i] == 'y');
    }
  }
  return t;
}

TEST(AnswerMetricsTest, AreCrowdKitsOnItsExamples) {
  const Votes votes = Toy().Create();
  const Consensus majority = MajorityVote(votes, {}, here);
  const auto label = LikeliestClasses(majority.posterior, 2);
  EXPECT_NEAR(Mean(Consistency(votes, majority.skill, label, here)), 0.9384615384615385, 1e-15);
  EXPECT_NEAR(Mean(ItemUncertainty(votes, majority.skill, here)), 0.6308666201949331, 1e-6);

  VoteTable each = {.classes = 3};
  for (int r = 0; r < 3; ++r) each.Add(0, r, r);
  EXPECT_DOUBLE_EQ(ItemUncertainty(each.Create(), {}, here)[0], std::log(3));
  VoteTable pair;
  for (int v = 0; v < 4; ++v) pair.Add(v / 2, v % 2, v == 1 ? 0 : 1);
  ExpectAllNear(ItemUncertainty(pair.Create(), {}, here), {std::log(2), 0}, 1e-15);
  ExpectAllNear(AnnotatorUncertainty(pair.Create(), {}), {0, std::log(2)}, 1e-15);
}

TEST(AnswerMetricsTest, MeetTheBluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
  const Votes votes = testing::Bluebirds(folder).Create();
  const Consensus majority = MajorityVote(votes, {}, here);
  const auto label = LikeliestClasses(majority.posterior, 2);
  const auto expected = [&](const std::string& key) {
    return testing::JsonNumber(folder / "expected.json", {key});
  };
  EXPECT_NEAR(Mean(Consistency(votes, majority.skill, label, here)), expected("consistency_mv"),
              1e-12);
  // crowd-kit adds 1e-6 to each sum before it divides, and normalises again.
  EXPECT_NEAR(Mean(ItemUncertainty(votes, {}, here)), expected("uncertainty_mean"), 1e-12);
}

TEST(AnswerMetricsTest, EqualTheirFormulasForSoftVotes) {
  const Votes votes = RandomTable(41, 30, 6, 3, true, true).Create();
  const std::vector<double> skill = {0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
  const std::vector<std::int32_t> label(30, 2);
  const auto consistency = Consistency(votes, skill, label, here);
  const auto uncertainty = ItemUncertainty(votes, skill, here);
  for (std::int64_t i = 0; i < 30; ++i) {
    std::vector<double> product(3, 1.0), sum(3);
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      const double s = skill[votes.annotator(v)];
      for (int k = 0; k < 3; ++k) {
        const double q = votes.probability(v, k);
        product[k] *=
            std::pow(s, votes.weight(v) * q) * std::pow((1 - s) / 2, votes.weight(v) * (1 - q));
        sum[k] += votes.weight(v) * (s * q + (1 - s) * (1 - q) / 2);
      }
    }
    const double products = product[0] + product[1] + product[2], sums = sum[0] + sum[1] + sum[2];
    double entropy = 0;
    for (int k = 0; k < 3; ++k) entropy -= sum[k] / sums * std::log(sum[k] / sums);
    if (i == 1) {  // has no votes
      EXPECT_TRUE(std::isnan(consistency[i]) && std::isnan(uncertainty[i]));
    } else {
      EXPECT_NEAR(consistency[i], product[2] / products, 1e-13);
      EXPECT_NEAR(uncertainty[i], entropy, 1e-13);
    }
  }
}

TEST(AnswerMetricsTest, CertainPeopleWhoDisagreeLeaveNothing) {
  VoteTable t;
  t.Add(0, 0, 0);
  t.Add(0, 1, 1);
  t.Add(1, 0, 1);
  const std::vector<double> skill = {1, 1};
  const std::vector<std::int32_t> label = {0, 1};
  ExpectAllNear(Consistency(t.Create(), skill, label, here), {0, 1}, 0);
}

}  // namespace
}  // namespace softloss::annotation
