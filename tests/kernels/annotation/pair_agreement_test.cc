#include "kernels/annotation/pair_agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/annotation/row_scores.h"
#include "tests/kernels/annotation/vote_table.h"

namespace softloss::annotation {
namespace {

using testing::Random;
using testing::RandomVotes;
using testing::VoteTable;

PairAgreement SumsOf(const Votes& votes, bool marginals = true) {
  PairAgreement sums(votes.num_classes(), marginals);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) sums.AddItem(votes, i);
  return sums;
}

// Two readers of 50 proposals: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no; κ = 0.4.
VoteTable TwoReaders() {
  VoteTable votes;
  const int cells[4][3] = {{1, 1, 20}, {1, 0, 5}, {0, 1, 10}, {0, 0, 15}};
  std::int64_t item = 0;
  for (const auto& [a, b, n] : cells) {
    for (int i = 0; i < n; ++i, ++item) {
      votes.Add(item, 0, a);
      votes.Add(item, 1, b);
    }
  }
  return votes;
}

TEST(PairAgreementTest, CohensKappa) {
  for (const VoteTable& table : {TwoReaders(), TwoReaders().OneHot()}) {
    const PairAgreement sums = SumsOf(table.Create());
    ASSERT_EQ(sums.Pairs().size(), 1u);
    const PairFigure pair = sums.Pairs()[0];
    EXPECT_EQ(pair.a, 0);
    EXPECT_EQ(pair.b, 1);
    EXPECT_EQ(pair.items, 50);
    EXPECT_DOUBLE_EQ(pair.agreement, 0.7);
    EXPECT_DOUBLE_EQ(pair.cohen_kappa, 0.4);
    EXPECT_DOUBLE_EQ(sums.PooledKappa(), 0.4);
  }
}

TEST(PairAgreementTest, IsBruteForceOverPairs) {
  Random random(1);
  for (const bool soft : {false, true}) {
    const Votes votes = RandomVotes(random, 40, 5, 3, soft).Create();
    const PairAgreement sums = SumsOf(votes);
    double gained = 0, possible = 0;
    for (const PairFigure& pair : sums.Pairs()) {
      double agreement = 0, items = 0;
      std::vector<double> a_sum(3), b_sum(3);
      for (std::int64_t i = 0; i < votes.num_items(); ++i) {
        std::int64_t a = -1, b = -1;
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          if (votes.annotator(v) == pair.a) a = v;
          if (votes.annotator(v) == pair.b) b = v;
        }
        if (a < 0 || b < 0) continue;
        ++items;
        for (int k = 0; k < 3; ++k) {
          agreement += votes.probability(a, k) * votes.probability(b, k);
          a_sum[k] += votes.probability(a, k);
          b_sum[k] += votes.probability(b, k);
        }
      }
      double chance = 0;
      for (int k = 0; k < 3; ++k) chance += a_sum[k] * b_sum[k] / (items * items);
      EXPECT_EQ(pair.items, items);
      EXPECT_NEAR(pair.agreement, agreement / items, 1e-12);
      EXPECT_NEAR(pair.cohen_kappa, (agreement / items - chance) / (1 - chance), 1e-11);
      gained += agreement - items * chance;
      possible += items * (1 - chance);
    }
    EXPECT_EQ(sums.Pairs().size(), 10u);
    EXPECT_NEAR(sums.PooledKappa(), gained / possible, 1e-12);
  }
}

TEST(PairAgreementTest, ShardsMergeToTheSameBitsInAnyOrder) {
  Random random(2);
  const Votes votes = RandomVotes(random, 100, 7, 4, true).Create();
  const std::vector<PairFigure> whole = SumsOf(votes).Pairs();
  for (int round = 0; round < 4; ++round) {
    std::vector<PairAgreement> shards(3, PairAgreement(4));
    for (std::int64_t i = 0; i < votes.num_items(); ++i) shards[random.Int(0, 3)].AddItem(votes, i);
    PairAgreement merged = shards[round % 3];
    merged += shards[(round + 2) % 3];
    merged += shards[(round + 1) % 3];
    const std::vector<PairFigure> pairs = merged.Pairs();
    ASSERT_EQ(pairs.size(), whole.size());
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      EXPECT_EQ(pairs[p].a, whole[p].a);
      EXPECT_EQ(pairs[p].b, whole[p].b);
      EXPECT_EQ(pairs[p].items, whole[p].items);
      EXPECT_EQ(pairs[p].agreement, whole[p].agreement);
      EXPECT_EQ(pairs[p].cohen_kappa, whole[p].cohen_kappa);
    }
    EXPECT_EQ(merged.PooledKappa(), SumsOf(votes).PooledKappa());
  }
}

TEST(PairAgreementTest, TheModelIsOneMoreVoter) {
  VoteTable table;
  table.Add(0, 0, 1);
  table.Add(0, 1, 0);
  const Votes votes = table.Create();
  PairAgreement sums(2);
  sums.AddItem(votes, 0, {0.25, 0.75});
  const std::vector<PairFigure> pairs = sums.Pairs();
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(pairs[1].a, 0);
  EXPECT_EQ(pairs[1].b, 2);
  EXPECT_EQ(pairs[1].agreement, 0.75);
  EXPECT_EQ(pairs[2].a, 1);
  EXPECT_EQ(pairs[2].b, 2);
  EXPECT_EQ(pairs[2].agreement, 0.25);
}

TEST(PairAgreementTest, OnlyPairsThatMeetAreKept) {
  VoteTable table;
  for (int i = 0; i < 30'000; ++i) {
    table.Add(i, i, i % 2);
    table.Add(i, (i + 1) % 30'000, i % 2);
  }
  const PairAgreement sums = SumsOf(table.Create());
  EXPECT_EQ(sums.Pairs().size(), 30'000u);
  EXPECT_EQ(sums.Pairs()[1].b, 29'999);  // of annotator 0
}

TEST(PairAgreementTest, WhatIsUndefinedIsNaN) {
  VoteTable alike;
  for (int i = 0; i < 3; ++i) {
    alike.Add(i, 0, 1);
    alike.Add(i, 1, 1);
  }
  const PairAgreement sums = SumsOf(alike.Create());
  EXPECT_EQ(sums.Pairs()[0].agreement, 1);
  EXPECT_TRUE(std::isnan(sums.Pairs()[0].cohen_kappa));
  EXPECT_TRUE(std::isnan(sums.PooledKappa()));
  EXPECT_TRUE(std::isnan(PairAgreement(2).PooledKappa()));
  EXPECT_TRUE(PairAgreement(2).Pairs().empty());
  const PairAgreement without = SumsOf(TwoReaders().Create(), false);
  EXPECT_DOUBLE_EQ(without.Pairs()[0].agreement, 0.7);
  EXPECT_TRUE(std::isnan(without.Pairs()[0].cohen_kappa));
  EXPECT_TRUE(std::isnan(without.PooledKappa()));
}

}  // namespace
}  // namespace softloss::annotation
