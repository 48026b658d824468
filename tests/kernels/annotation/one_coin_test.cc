#include "kernels/annotation/one_coin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/annotation/aggregation_cases.h"
#include "tests/testing/status_matchers.h"
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
using ::softloss::testing::StatusIs;
using ::softloss::testing::ThreadExecutor;
using ::softloss::testing::VoteTable;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

InlineExecutor here;

OneCoin Fit(const Votes& votes, const OneCoinOptions& options = {},
            const Distributions* gold = nullptr) {
  auto fit = FitOneCoin(votes, gold, options, here);
  EXPECT_TRUE(fit.ok()) << fit.status();
  return fit.ok() ? *std::move(fit) : OneCoin();
}

TEST(OneCoinTest, MeetsTheBluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
  // As many iterations as crowd-kit makes, which keeps probabilities at 1e-10 at least.
  const OneCoin fit = Fit(Bluebirds(folder).Create(), {.tolerance = 0, .max_iterations = 19});
  ExpectAllNear(SecondClass(fit.consensus.posterior),
                JsonNumbers(folder / "expected.json", {"one_coin", "p1"}), 1e-10);
  ExpectAllNear(fit.consensus.skill, JsonNumbers(folder / "expected.json", {"one_coin", "skills"}),
                1e-10);
}

TEST(OneCoinTest, EqualsItsFormulas) {
  for (const bool soft : {false, true}) {
    const Votes votes = RandomTable(21, 50, 6, 4, soft, true).Create();
    const OneCoin before = Fit(votes, {.tolerance = 0, .max_iterations = 3});
    const OneCoin after = Fit(votes, {.tolerance = 0, .max_iterations = 4});
    std::vector<double> right(6), weight(6);
    double likelihood = 0;
    for (std::int64_t i = 0; i < 50; ++i) {
      std::vector<double> p = before.prior;
      double sum = 0;
      for (int k = 0; k < 4; ++k) {
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          const double s = before.consensus.skill[votes.annotator(v)], q = votes.probability(v, k);
          p[k] *= std::pow(std::pow(s, q) * std::pow((1 - s) / 3, 1 - q), votes.weight(v));
        }
        sum += p[k];
      }
      if (i != 1) likelihood += std::log(sum);
      for (int k = 0; k < 4; ++k) {
        EXPECT_NEAR(after.consensus.posterior[i * 4 + k], p[k] / sum, 1e-12);
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          right[votes.annotator(v)] += votes.weight(v) * p[k] / sum * votes.probability(v, k);
          if (k == 0) weight[votes.annotator(v)] += votes.weight(v);
        }
      }
    }
    EXPECT_NEAR(after.log_likelihood.back(), likelihood, 1e-10);
    for (int r = 0; r < 5; ++r) EXPECT_NEAR(after.consensus.skill[r], right[r] / weight[r], 1e-12);
    EXPECT_TRUE(std::isnan(after.consensus.skill[5]));
  }
}

TEST(OneCoinTest, NeverLowersTheLikelihoodAndRanksByAccuracy) {
  for (const bool soft : {false, true}) {
    const OneCoin fit = Fit(RandomTable(22, 800, 9, 3, soft).Create(), {.tolerance = 0});
    for (std::size_t t = 1; t < fit.log_likelihood.size(); ++t) {
      EXPECT_GE(fit.log_likelihood[t], fit.log_likelihood[t - 1] + 1e-13 * fit.log_likelihood[t]);
    }
    EXPECT_GT(fit.consensus.skill[7], fit.consensus.skill[0] + 0.05);
  }
}

TEST(OneCoinTest, HasTheSameBitsForThreadsOrdersAndCertainDistributions) {
  const VoteTable t = RandomTable(23, 300, 9, 3, false, true);
  const OneCoin one = Fit(t.Create()), certain = Fit(t.OneHot().Create());
  ThreadExecutor threads(4);
  const auto many = FitOneCoin(Shuffled(t, 3).Create(), nullptr, {}, threads);
  ASSERT_TRUE(many.ok());
  for (const OneCoin* other : {&certain, &*many}) {
    ExpectSameBits(one.consensus.posterior, other->consensus.posterior);
    ExpectSameBits(one.consensus.skill, other->consensus.skill);
    ExpectSameBits(one.log_likelihood, other->log_likelihood);
  }
}

TEST(OneCoinTest, GoldStandsAndEdgesAreDefined) {
  VoteTable t = {.items = 10, .annotators = 2};
  Distributions gold = {.probability = std::vector<double>(20),
                        .present = std::vector<std::uint8_t>(10)};
  for (int i = 0; i < 10; ++i) {
    t.Add(i, 0, 0);
    t.Add(i, 1, i % 2);
    gold.present[i] = i < 8;
    gold.probability[i * 2 + i % 2] = i < 8;
  }
  const OneCoin fit = Fit(t.Create(), {}, &gold);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(fit.consensus.posterior[i * 2 + i % 2], 1);
  EXPECT_NEAR(fit.consensus.skill[1], 1, 1e-6);
  EXPECT_GT(fit.consensus.posterior[19], 0.99);  // the one who was right is believed
  EXPECT_THAT(FitOneCoin(t.Create(), nullptr, {.max_iterations = -1}, here),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_iterations")));
  gold.present.pop_back();
  EXPECT_THAT(FitOneCoin(t.Create(), &gold, {}, here),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("gold")));

  const VoteTable none = {.items = 1, .annotators = 1};
  EXPECT_THAT(Fit(none.Create()).consensus.posterior, ElementsAre(0.5, 0.5));
}

}  // namespace
}  // namespace softloss::annotation
