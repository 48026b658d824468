#include "kernels/annotation/ambiguity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/annotation/row_scores.h"
#include "tests/kernels/annotation/vote_table.h"

namespace softloss::annotation {
namespace {

using testing::Random;
using testing::RandomRow;
using testing::VoteTable;

TEST(AmbiguityTest, TheIdentitiesHold) {
  Random random(1);
  VoteTable table = testing::RandomVotes(random, 50, 6, 4, true);
  for (std::size_t v = 0; v < table.item.size(); ++v)
    table.weight.push_back(random.Uniform() + 0.1);
  const Votes votes = table.Create();
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    if (votes.item_begin(i) == votes.item_begin(i + 1)) continue;
    const std::vector<double> model = RandomRow(random, 4);
    std::vector<double> mean(4), expected(4);
    const Ambiguity a = ItemAmbiguity(votes, i, model, absl::MakeSpan(mean));
    double weight = 0, mean_entropy = 0;
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      for (int k = 0; k < 4; ++k) expected[k] += votes.weight(v) * votes.probability(v, k);
      mean_entropy += votes.weight(v) * Entropy(votes.probabilities(v));
      weight += votes.weight(v);
    }
    for (int k = 0; k < 4; ++k) EXPECT_NEAR(mean[k], expected[k] / weight, 1e-15);
    EXPECT_NEAR(a.mean_entropy, mean_entropy / weight, 1e-13);
    EXPECT_NEAR(a.entropy, Entropy(mean), 1e-13);
    EXPECT_NEAR(a.entropy, a.mean_entropy + a.js, 1e-12);
    EXPECT_NEAR(a.cross_entropy, a.entropy + a.kl, 1e-12);
  }
}

TEST(AmbiguityTest, HardVotesAreOneHot) {
  VoteTable table;
  table.classes = 3;
  table.Add(0, 0, 0);
  table.Add(0, 1, 0);
  table.Add(0, 2, 2);
  table.Add(0, 3, 2);
  const Ambiguity hard = ItemAmbiguity(table.Create(), 0),
                  soft = ItemAmbiguity(table.OneHot().Create(), 0);
  for (const Ambiguity& a : {hard, soft}) {
    EXPECT_DOUBLE_EQ(a.entropy, std::numbers::ln2);
    EXPECT_EQ(a.mean_entropy, 0);
    EXPECT_DOUBLE_EQ(a.js, std::numbers::ln2);
    EXPECT_TRUE(std::isnan(a.cross_entropy));
    EXPECT_TRUE(std::isnan(a.kl));
  }
}

TEST(AmbiguityTest, VotesThatAreAlikeAreAmbiguousWithoutDifference) {
  VoteTable table;
  for (int r = 0; r < 3; ++r) table.Add(0, r, {0.5, 0.5});
  const Ambiguity a = ItemAmbiguity(table.Create(), 0, {0.5, 0.5});
  EXPECT_NEAR(a.entropy, std::numbers::ln2, 1e-15);
  EXPECT_NEAR(a.mean_entropy, std::numbers::ln2, 1e-15);
  EXPECT_NEAR(a.js, 0, 1e-15);
  EXPECT_GE(a.js, 0);
  EXPECT_NEAR(a.kl, 0, 1e-15);
}

TEST(AmbiguityTest, AnItemWithoutVotesHasNone) {
  VoteTable table;
  table.items = 1;
  std::vector<double> mean = {7, 7};
  const Ambiguity a = ItemAmbiguity(table.Create(), 0, {0.5, 0.5}, absl::MakeSpan(mean));
  for (const double x : {a.entropy, a.mean_entropy, a.js, a.cross_entropy, a.kl}) {
    EXPECT_TRUE(std::isnan(x));
  }
  EXPECT_EQ(mean, (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace softloss::annotation
