#include "kernels/annotation/majority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/annotation/wawa.h"
#include "tests/kernels/annotation/aggregation_cases.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::Bluebirds;
using ::softloss::testing::ExpectAllNear;
using ::softloss::testing::ExpectSameBits;
using ::softloss::testing::JsonNumbers;
using ::softloss::testing::RandomTable;
using ::softloss::testing::SecondClass;
using ::softloss::testing::Shuffled;
using ::softloss::testing::ThreadExecutor;
using ::softloss::testing::VoteTable;
using ::testing::ElementsAre;

InlineExecutor here;

// Five people on five questions, no = 0, yes = 1: the example of crowd-kit's tests.
VoteTable Toy() {
  VoteTable t = {.items = 5, .annotators = 5};
  const char* const answers[] = {"nyyyy", "yynyn", " ynyn", "ynyyn", "nnnyn"};
  for (int r = 0; r < 5; ++r) {
    for (int i = 0; i < 5; ++i) {
      if (answers[r][i] != ' ') t.Add(i, r, answers[r][i] == 'y');
    }
  }
  return t;
}

TEST(MajorityTest, IsTheMeanOfVotesAndTheLowestOfEqualClasses) {
  const Consensus c = MajorityVote(Toy().Create(), {}, here);
  ExpectAllNear(SecondClass(c.posterior), {0.5, 0.6, 0.4, 1, 0.2}, 0);
  EXPECT_THAT(LikeliestClasses(c.posterior, 2), ElementsAre(0, 1, 0, 1, 0));
  ExpectAllNear(c.skill, {0.6, 0.8, 1, 0.4, 0.8}, 0);
}

TEST(MajorityTest, AnnotatorsWeightsAndVotesWeightsMultiply) {
  VoteTable t = {.classes = 3, .items = 1, .annotators = 3};
  t.Add(0, 0, 2);
  t.Add(0, 1, 0);
  t.Add(0, 2, 2);
  t.weight = {1, 4, 2};
  const Consensus c = MajorityVote(t.Create(), {0.5, 1, 0.25}, here);
  ExpectAllNear(c.posterior, {4 / 5., 0, 1 / 5.}, 1e-16);
  EXPECT_THAT(c.skill, ElementsAre(0, 1, 0));
  // Weights that are all 0 leave the votes' own.
  ExpectAllNear(MajorityVote(t.Create(), {0, 0, 0}, here).posterior, {4 / 7., 0, 3 / 7.}, 1e-16);
}

TEST(MajorityTest, SoftVotesAreAveraged) {
  VoteTable t = {.classes = 3, .items = 2, .annotators = 2};
  t.Add(0, 0, 0);
  t.Add(0, 1, 0);
  t.probabilities = {0.5, 0.25, 0.25, 0, 0.25, 0.75};
  const Consensus c = MajorityVote(t.Create(), {}, here);
  ExpectAllNear(c.posterior, {0.25, 0.25, 0.5, 1 / 3., 1 / 3., 1 / 3.}, 1e-16);  // item 1 is empty
  ExpectAllNear(c.skill, {0.25, 0.75}, 0);
}

TEST(MajorityTest, MeetsTheBluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
  const Votes votes = Bluebirds(folder).Create();
  for (const std::string method : {"majority_vote", "wawa"}) {
    const Consensus c = method == "wawa" ? Wawa(votes, here) : MajorityVote(votes, {}, here);
    ExpectAllNear(SecondClass(c.posterior), JsonNumbers(folder / "expected.json", {method, "p1"}),
                  1e-15);
    ExpectAllNear(c.skill, JsonNumbers(folder / "expected.json", {method, "skills"}), 1e-15);
  }
}

TEST(WawaTest, WeighsByAgreementWithTheMajority) {
  const Consensus c = Wawa(Toy().Create(), here);
  ExpectAllNear(c.skill, {0.6, 0.8, 1, 0.4, 0.8}, 0);
  ExpectAllNear(SecondClass(c.posterior), {6 / 13., 2 / 3., 5 / 18., 1, 1 / 6.}, 1e-15);
}

TEST(WawaTest, SilencesThoseWhoNeverAgree) {
  VoteTable t = {.classes = 3, .items = 2, .annotators = 4};
  t.Add(0, 0, 0);
  t.Add(0, 1, 0);
  t.Add(0, 2, 1);
  t.Add(1, 2, 2);
  t.Add(1, 3, 1);
  t.weight = {1, 1, 1, 1, 2};
  const Consensus c = Wawa(t.Create(), here);
  ExpectAllNear(c.skill, {1, 1, 0, 1}, 0);
  ExpectAllNear(c.posterior, {1, 0, 0, 0, 1, 0}, 0);
}

TEST(MajorityTest, HasTheSameBitsForThreadsOrdersAndCertainDistributions) {
  for (const bool soft : {false, true}) {
    const VoteTable t = RandomTable(7, 300, 9, 4, soft, true);
    const Consensus one = MajorityVote(t.Create(), {}, here);
    ThreadExecutor threads(4);
    const Consensus many = MajorityVote(Shuffled(t, 3).Create(), {}, threads);
    ExpectSameBits(one.posterior, many.posterior);
    ExpectSameBits(one.skill, many.skill);
    EXPECT_TRUE(std::isnan(one.skill.back()));  // has no votes
    if (soft) continue;
    const Consensus certain = Wawa(t.OneHot().Create(), here), hard = Wawa(t.Create(), here);
    ExpectSameBits(hard.posterior, certain.posterior);
    ExpectSameBits(hard.skill, certain.skill);
  }
}

TEST(MajorityTest, NoItemsAreNoRows) {
  const VoteTable t = {.classes = 200, .items = 0, .annotators = 0};
  EXPECT_TRUE(MajorityVote(t.Create(), {}, here).posterior.empty());
}

}  // namespace
}  // namespace softloss::annotation
