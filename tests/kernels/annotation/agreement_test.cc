#include "kernels/annotation/agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels/annotation/row_scores.h"
#include "tests/kernels/annotation/real_data.h"
#include "tests/kernels/annotation/vote_table.h"

namespace softloss::annotation {
namespace {

using testing::Random;
using testing::RandomVotes;
using testing::VoteTable;

AgreementSums SumsOf(const Votes& votes) {
  AgreementSums sums(votes.num_classes());
  for (std::int64_t i = 0; i < votes.num_items(); ++i) sums.AddItem(votes, i);
  return sums;
}

Agreement AgreementOf(const VoteTable& table) { return SumsOf(table.Create()).Finish(); }

// Every pair by itself, as the definitions have it.
struct BruteForce {
  explicit BruteForce(const Votes& votes) : k_end(votes.num_classes()), class_votes(k_end) {
    for (std::int64_t i = 0; i < votes.num_items(); ++i) {
      const std::int64_t begin = votes.item_begin(i), end = votes.item_begin(i + 1);
      if (end - begin < 2) continue;
      items.emplace_back();
      for (std::int64_t v = begin; v < end; ++v) {
        std::vector<double>& q = items.back().emplace_back(k_end);
        for (int k = 0; k < k_end; ++k) class_votes[k] += q[k] = votes.probability(v, k);
        all.push_back(q);
      }
    }
  }

  double Distance(AlphaMetric metric, int c, int k) const {
    if (metric == AlphaMetric::kNominal) return c == k ? 0 : 1;
    if (metric == AlphaMetric::kInterval) return (c - k) * (c - k);
    double between = 0;
    for (int g = std::min(c, k); g <= std::max(c, k); ++g) between += class_votes[g];
    between -= (class_votes[c] + class_votes[k]) / 2;
    return between * between;
  }
  double Alpha(AlphaMetric metric) const {
    const auto n = static_cast<double>(all.size());
    double observed = 0, expected = 0;
    for (int c = 0; c < k_end; ++c) {
      for (int k = 0; k < k_end; ++k) {
        const double distance = Distance(metric, c, k);
        for (const auto& votes : items) {
          for (std::size_t r = 0; r < votes.size(); ++r) {
            for (std::size_t s = 0; s < votes.size(); ++s) {
              if (r == s) continue;
              observed +=
                  votes[r][c] * votes[s][k] * distance / static_cast<double>(votes.size() - 1);
            }
          }
        }
        expected += class_votes[c] * class_votes[k] * distance;
      }
    }
    return 1 - observed / n / (expected / (n * (n - 1)));
  }
  double SoftAlpha() const {
    const auto n = static_cast<double>(all.size());
    double observed = 0, expected = 0;
    for (const auto& votes : items) {
      for (const auto& a : votes) {
        for (const auto& b : votes) observed += Brier(a, b) / static_cast<double>(votes.size() - 1);
      }
    }
    for (const auto& a : all) {
      for (const auto& b : all) expected += Brier(a, b);
    }
    return 1 - observed / n / (expected / (n * (n - 1)));
  }
  double Percent() const {
    double sum = 0;
    for (const auto& votes : items) {
      double pairs = 0, agreement = 0;
      for (std::size_t r = 0; r < votes.size(); ++r) {
        for (std::size_t s = 0; s < r; ++s) {
          agreement += SelfConfidence(votes[r], votes[s]);
          ++pairs;
        }
      }
      sum += agreement / pairs;
    }
    return sum / static_cast<double>(items.size());
  }
  double Fleiss() const {
    double chance = 0;
    for (const double c : class_votes) {
      chance += c / static_cast<double>(all.size()) * (c / static_cast<double>(all.size()));
    }
    return (Percent() - chance) / (1 - chance);
  }

  int k_end;
  std::vector<double> class_votes;
  std::vector<std::vector<std::vector<double>>> items;
  std::vector<std::vector<double>> all;
};

TEST(AgreementTest, SumsAreBruteForce) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    const bool soft = round % 2 == 0;
    const Votes votes =
        RandomVotes(random, 20, 5, static_cast<int>(random.Int(2, 6)), soft).Create();
    const BruteForce expected(votes);
    if (expected.items.size() < 3) continue;
    const Agreement agreement = SumsOf(votes).Finish();
    EXPECT_EQ(agreement.items, static_cast<std::int64_t>(expected.items.size()));
    EXPECT_EQ(agreement.votes, static_cast<std::int64_t>(expected.all.size()));
    EXPECT_NEAR(agreement.alpha_nominal, expected.Alpha(AlphaMetric::kNominal), 1e-12);
    EXPECT_NEAR(agreement.alpha_ordinal, expected.Alpha(AlphaMetric::kOrdinal), 1e-12);
    EXPECT_NEAR(agreement.alpha_interval, expected.Alpha(AlphaMetric::kInterval), 1e-12);
    EXPECT_NEAR(agreement.alpha_soft, expected.SoftAlpha(), 1e-12);
    EXPECT_NEAR(agreement.percent, expected.Percent(), 1e-12);
    EXPECT_NEAR(agreement.fleiss_kappa, expected.Fleiss(), 1e-12);
  }
}

TEST(AgreementTest, OneHotVotesAreHardVotes) {
  Random random(2);
  for (int round = 0; round < 20; ++round) {
    const VoteTable table = RandomVotes(random, 30, 4, 4, false);
    const AgreementSums hard = SumsOf(table.Create()), soft = SumsOf(table.OneHot().Create());
    EXPECT_NEAR(hard.Finish().alpha_soft, hard.Finish().alpha_nominal, 1e-12);
    EXPECT_EQ(hard.Finish().alpha_nominal, soft.Finish().alpha_nominal);
    EXPECT_EQ(hard.Finish().alpha_ordinal, soft.Finish().alpha_ordinal);
    EXPECT_EQ(hard.Finish().alpha_interval, soft.Finish().alpha_interval);
    EXPECT_NEAR(hard.Finish().alpha_soft, soft.Finish().alpha_soft, 1e-12);
    EXPECT_EQ(hard.Finish().fleiss_kappa, soft.Finish().fleiss_kappa);
  }
}

TEST(AgreementTest, ShardsMergeToTheSameBitsInAnyOrder) {
  Random random(3);
  for (const bool soft : {false, true}) {
    const Votes votes = RandomVotes(random, 200, 6, 5, soft).Create();
    const AgreementSums whole = SumsOf(votes);
    for (int round = 0; round < 5; ++round) {
      std::vector<AgreementSums> shards(4, AgreementSums(5));
      for (std::int64_t i = 0; i < votes.num_items(); ++i) {
        shards[random.Int(0, 4)].AddItem(votes, i);
      }
      AgreementSums merged = shards[round % 4];
      for (int s = 1; s < 4; ++s) merged += shards[(round + 3 * s) % 4];
      EXPECT_EQ(merged, whole);
    }
  }
}

TEST(CoincidenceMatrixTest, RowsSumToTheMargins) {
  Random random(4);
  for (const bool soft : {false, true}) {
    const Votes votes = RandomVotes(random, 50, 5, 4, soft).Create();
    CoincidenceMatrix matrix(4);
    for (std::int64_t i = 0; i < votes.num_items(); ++i) matrix.AddItem(votes, i);
    const BruteForce expected(votes);
    for (int c = 0; c < 4; ++c) {
      double row = 0;
      for (int k = 0; k < 4; ++k) row += matrix.coincidences(c, k);
      EXPECT_NEAR(row, matrix.margin(c), 1e-12);
      EXPECT_NEAR(matrix.margin(c), expected.class_votes[c], 1e-12);
    }
  }
}

// Krippendorff (2011), the table with missing values; its coefficients, and those of fast-krippendorff.
TEST(AgreementTest, KrippendorffsTable) {
  const std::vector<std::vector<int>> table = {{1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0},
                                               {1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3},
                                               {0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0},
                                               {1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0}};
  VoteTable votes;
  votes.classes = 5;
  for (int r = 0; r < 4; ++r) {
    for (int i = 0; i < 12; ++i) {
      if (table[r][i] > 0) votes.Add(i, r, table[r][i] - 1);
    }
  }
  const Agreement agreement = AgreementOf(votes);
  EXPECT_EQ(agreement.items, 11);
  EXPECT_EQ(agreement.votes, 40);
  EXPECT_NEAR(agreement.alpha_nominal, 0.743, 5e-4);
  EXPECT_NEAR(agreement.alpha_ordinal, 0.815, 5e-4);
  EXPECT_NEAR(agreement.alpha_interval, 0.849, 5e-4);
}

TEST(AgreementTest, TheIntervalScaleHasTheGivenValues) {
  VoteTable votes;
  votes.classes = 3;
  const int table[4][2] = {{0, 0}, {0, 2}, {1, 1}, {2, 1}};
  for (int i = 0; i < 4; ++i) {
    votes.Add(i, 0, table[i][0]);
    votes.Add(i, 1, table[i][1]);
  }
  // Values 0, 1, 10 with 3, 3, 2 votes: 8 Do = 2·(10² + 9²), 56 De = 2·(3·3·1 + 3·2·100 + 3·2·81).
  const double expected = 1 - (2 * 181 / 8.0) / (2 * (9 + 600 + 486) / 56.0);
  EXPECT_DOUBLE_EQ(SumsOf(votes.Create()).Finish({0, 1, 10}).alpha_interval, expected);
  EXPECT_DOUBLE_EQ(SumsOf(votes.Create()).Finish({5, 6, 15}).alpha_interval, expected);
}

// Fleiss (1971) as the encyclopedias quote it: 14 raters, κ = 0.210.
TEST(AgreementTest, FleissTable) {
  const int counts[10][5] = {{0, 0, 0, 0, 14}, {0, 2, 6, 4, 2}, {0, 0, 3, 5, 6}, {0, 3, 9, 2, 0},
                             {2, 2, 8, 1, 1},  {7, 7, 0, 0, 0}, {3, 2, 6, 3, 0}, {2, 5, 3, 2, 2},
                             {6, 5, 2, 1, 0},  {0, 2, 2, 3, 7}};
  VoteTable votes;
  votes.classes = 5;
  for (int i = 0; i < 10; ++i) {
    int r = 0;
    for (int k = 0; k < 5; ++k) {
      for (int n = 0; n < counts[i][k]; ++n) votes.Add(i, r++, k);
    }
  }
  EXPECT_NEAR(AgreementOf(votes).percent, 0.378, 5e-4);
  EXPECT_NEAR(AgreementOf(votes).fleiss_kappa, 0.210, 5e-4);
}

TEST(AgreementTest, AllAgreeIsOneWhereClassesDiffer) {
  VoteTable votes;
  for (int i = 0; i < 4; ++i) {
    for (int r = 0; r < 3; ++r) votes.Add(i, r, i % 2);
  }
  for (const VoteTable& table : {votes, votes.OneHot()}) {
    const Agreement agreement = AgreementOf(table);
    EXPECT_EQ(agreement.alpha_nominal, 1);
    EXPECT_EQ(agreement.alpha_ordinal, 1);
    EXPECT_EQ(agreement.alpha_interval, 1);
    EXPECT_EQ(agreement.alpha_soft, 1);
    EXPECT_EQ(agreement.fleiss_kappa, 1);
    EXPECT_EQ(agreement.percent, 1);
  }
}

TEST(AgreementTest, SoftVotesThatAreAlikeAgreeFully) {
  VoteTable votes;
  votes.classes = 3;
  for (int r = 0; r < 3; ++r) {
    votes.Add(0, r, {0.1, 0.2, 0.7});
    votes.Add(1, r, {0.3, 0.3, 0.4});
  }
  EXPECT_NEAR(AgreementOf(votes).alpha_soft, 1, 1e-15);
  EXPECT_LT(AgreementOf(votes).alpha_nominal, 0.5);  // as draws from them would not
}

TEST(AgreementTest, WhatIsUndefinedIsNaN) {
  VoteTable none, alone, one_class, one_row;
  alone.Add(0, 0, 1);
  alone.Add(1, 1, 0);
  for (int i = 0; i < 3; ++i) {
    for (int r = 0; r < 3; ++r) {
      one_class.Add(i, r, 1);
      one_row.Add(i, r, {0.1, 0.9});
    }
  }
  for (const VoteTable& table : {none, alone, one_class, one_class.OneHot()}) {
    const Agreement agreement = AgreementOf(table);
    EXPECT_TRUE(std::isnan(agreement.alpha_nominal));
    EXPECT_TRUE(std::isnan(agreement.alpha_ordinal));
    EXPECT_TRUE(std::isnan(agreement.alpha_interval));
    EXPECT_TRUE(std::isnan(agreement.alpha_soft));
    EXPECT_TRUE(std::isnan(agreement.fleiss_kappa));
  }
  EXPECT_TRUE(std::isnan(AgreementOf(none).percent));
  EXPECT_EQ(AgreementOf(alone).items, 0);
  EXPECT_TRUE(std::isnan(AgreementOf(alone).percent));
  EXPECT_EQ(AgreementOf(one_class).percent, 1);
  EXPECT_TRUE(std::isnan(AgreementOf(one_row).alpha_soft));
}

TEST(AgreementTest, ManyClassesHaveNoScale) {
  VoteTable votes;
  votes.classes = AgreementSums::kMaxScaleClasses + 1;
  votes.Add(0, 0, 0);
  votes.Add(0, 1, 256);
  votes.Add(1, 0, 3);
  votes.Add(1, 1, 3);
  const Agreement agreement = AgreementOf(votes);
  EXPECT_TRUE(std::isnan(agreement.alpha_ordinal));
  EXPECT_TRUE(std::isnan(agreement.alpha_interval));
  EXPECT_DOUBLE_EQ(agreement.alpha_nominal, 1 - (2 / 4.0) / (1 - 2 / 12.0));
}

TEST(ItemAgreementTest, OfItemsAndVotes) {
  VoteTable votes;
  votes.classes = 3;
  for (const int label : {0, 0, 1}) votes.Add(0, static_cast<int>(votes.item.size()), label);
  votes.Add(1, 0, 2);
  for (const VoteTable& table : {votes, votes.OneHot()}) {
    const Votes v = table.Create();
    EXPECT_DOUBLE_EQ(ItemAgreement(v, 0), 1 / 3.0);
    std::vector<double> each(3);
    VoteAgreements(v, 0, absl::MakeSpan(each));
    EXPECT_EQ(each, (std::vector<double>{0.5, 0.5, 0}));
    EXPECT_TRUE(std::isnan(ItemAgreement(v, 1)));
    each.resize(1);
    VoteAgreements(v, 1, absl::MakeSpan(each));
    EXPECT_TRUE(std::isnan(each[0]));
  }
}

TEST(AgreementDataTest, Bluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds; set SOFTLOSS_DATA";
  std::map<int, int> task, worker;
  const auto rows = testing::ReadCsv(folder / "labels.csv");
  for (const auto& row : rows) task[std::stoi(row[0])] = worker[std::stoi(row[1])] = 0;
  int i = 0, r = 0;
  for (auto& [id, number] : task) number = i++;
  for (auto& [id, number] : worker) number = r++;
  VoteTable votes;
  for (const auto& row : rows) {
    votes.Add(task[std::stoi(row[0])], worker[std::stoi(row[1])], std::stoi(row[2]));
  }
  const Agreement agreement = AgreementOf(votes);
  EXPECT_EQ(agreement.votes, 39 * 108);
  EXPECT_NEAR(agreement.alpha_nominal,
              testing::JsonNumber(folder / "expected.json", {"alpha_nominal_krippendorff"}), 1e-12);
}

TEST(AgreementDataTest, RatingsOfNodules) {
  const auto folder = testing::DataSet("lidc-readers");
  if (folder.empty()) GTEST_SKIP() << "no data set lidc-readers; set SOFTLOSS_DATA";
  const auto rows = testing::ReadCsv(folder / "ratings.csv");
  const std::map<std::string, int> column = {{"subtlety", 3},   {"sphericity", 6},  {"margin", 7},
                                             {"lobulation", 8}, {"spiculation", 9}, {"texture", 10},
                                             {"malignancy", 11}};
  for (const auto& [name, c] : column) {
    VoteTable votes;
    votes.classes = 6;
    for (const auto& row : rows) {
      votes.Add(std::stoi(row[0]), std::stoi(row[2]), std::stoi(row[c]) - 1);
    }
    const Agreement agreement = AgreementOf(votes);
    const auto expected = folder / "expected.json";
    EXPECT_NEAR(agreement.alpha_nominal, testing::JsonNumber(expected, {name, "nominal"}), 1e-12);
    EXPECT_NEAR(agreement.alpha_ordinal, testing::JsonNumber(expected, {name, "ordinal"}), 1e-12);
    EXPECT_NEAR(agreement.alpha_interval, testing::JsonNumber(expected, {name, "interval"}), 1e-12);
  }
}

}  // namespace
}  // namespace softloss::annotation
