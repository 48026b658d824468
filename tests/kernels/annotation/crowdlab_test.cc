#include "kernels/annotation/crowdlab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/annotation/crowdlab_majority.h"
#include "tests/kernels/annotation/aggregation_cases.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::Bluebirds;
using ::softloss::testing::ExpectAllNear;
using ::softloss::testing::ExpectSameBits;
using ::softloss::testing::JsonNumber;
using ::softloss::testing::JsonNumbers;
using ::softloss::testing::RandomTable;
using ::softloss::testing::Shuffled;
using ::softloss::testing::StatusIs;
using ::softloss::testing::ThreadExecutor;
using ::softloss::testing::VoteTable;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

InlineExecutor here;

Crowdlab Fit(const Votes& votes, const Distributions* predictions) {
  auto fit = FitCrowdlab(votes, predictions, here);
  EXPECT_TRUE(fit.ok()) << fit.status();
  return fit.ok() ? *std::move(fit) : Crowdlab();
}

Distributions Predictions(std::uint64_t seed, std::int64_t items, int classes, double density = 1) {
  testing::Random random(seed);
  Distributions out = {.probability = std::vector<double>(items * classes),
                       .present = std::vector<std::uint8_t>(items)};
  for (std::int64_t i = 0; i < items; ++i) {
    out.present[i] = random.Chance(density);
    if (!out.present[i]) continue;
    const std::vector<double> row = testing::RandomRow(random, classes);
    std::copy(row.begin(), row.end(), out.probability.begin() + i * classes);
  }
  return out;
}

template <typename T>
std::vector<double> Doubles(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

class BluebirdsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = testing::DataSet("bluebirds");
    if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
    path_ = folder / "expected.json";
    const VoteTable all = Bluebirds(folder);
    kept_ = {.items = all.items, .annotators = all.annotators};
    for (std::size_t v = 0; v < all.item.size(); ++v) {  // the file's rule of what is missing
      if ((all.item[v] + 3 * all.annotator[v]) % 4 == 0) continue;
      kept_.Add(all.item[v], all.annotator[v], all.label[v]);
    }
    for (const double p : Expected("p1")) {
      predictions_.probability.insert(predictions_.probability.end(), {1 - p, p});
      predictions_.present.push_back(1);
    }
  }
  std::vector<double> Expected(const std::string& key) const {
    return JsonNumbers(path_, {"crowdlab", key});
  }

  std::filesystem::path path_;
  VoteTable kept_;
  Distributions predictions_;
};

TEST_F(BluebirdsTest, EveryFigureIsCleanlabs) {
  const Votes votes = kept_.Create();
  const Crowdlab fit = Fit(votes, &predictions_);
  EXPECT_EQ(Doubles(fit.label), Expected("consensus_label"));
  ExpectAllNear(fit.quality, Expected("consensus_quality"), 1e-14);
  ExpectAllNear(fit.agreement, Expected("annotator_agreement"), 1e-15);
  ExpectAllNear(fit.consensus.skill, Expected("annotator_quality"), 1e-14);
  ExpectAllNear(fit.agreement_with_consensus, Expected("agreement_with_consensus"), 1e-15);
  EXPECT_EQ(Doubles(fit.worst_class), Expected("worst_class"));
  EXPECT_NEAR(fit.model_weight, JsonNumber(path_, {"crowdlab", "model_weight"}), 1e-13);
  ExpectAllNear(fit.weight, Expected("annotator_weight"), 1e-13);
  double detailed = 0;
  std::vector<double> counts(votes.num_items());
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      detailed += fit.consensus.posterior[i * 2 + votes.label(v)];
      counts[i] += 1;
    }
  }
  EXPECT_NEAR(detailed / votes.size(), JsonNumber(path_, {"crowdlab", "detailed_mean"}), 1e-13);
  EXPECT_EQ(counts, Expected("num_annotations"));
}

// The header's formulas as they stand.
struct Formulas {
  std::vector<double> posterior, weight;
  double model_weight = 0;

  Formulas(const Votes& votes, const Distributions& given, const std::vector<std::int32_t>& label) {
    const int classes = votes.num_classes(), annotators = votes.num_annotators();
    std::vector<double> agreeing(annotators), pairs(annotators), commonest(classes);
    double items = 0, likelihood = 0, predicted = 0, wrong = 0, voted = 0;
    for (std::int64_t i = 0; i < votes.num_items(); ++i) {
      const std::int64_t begin = votes.item_begin(i), end = votes.item_begin(i + 1);
      voted += begin < end;
      if (end - begin < 2) continue;
      double own = 0, all = 0;
      for (std::int64_t v = begin; v < end; ++v) {
        own += votes.weight(v) * votes.probability(v, label[i]);
        all += votes.weight(v);
        for (std::int64_t u = begin; u < end; ++u) {
          if (u == v) continue;
          double product = 0;
          for (int k = 0; k < classes; ++k)
            product += votes.probability(u, k) * votes.probability(v, k);
          agreeing[votes.annotator(v)] += votes.weight(u) * votes.weight(v) * product;
          pairs[votes.annotator(v)] += votes.weight(u) * votes.weight(v);
        }
      }
      items += 1;
      likelihood += own / all;
      commonest[label[i]] += 1;
      if (!given.present[i]) continue;
      predicted += 1;
      const auto row = given.probability.begin() + i * classes;
      wrong += std::max_element(row, row + classes) - row != label[i];
    }
    const double base = 1 - *std::max_element(commonest.begin(), commonest.end()) / items;
    const double c = likelihood / items;
    for (int r = 0; r < annotators; ++r) {
      weight.push_back(std::max(1 - (1 - agreeing[r] / pairs[r]) / base, 1e-6));
    }
    model_weight = std::max(1 - wrong / predicted / base, 1e-6) * std::sqrt(votes.size() / voted);
    for (std::int64_t i = 0; i < votes.num_items(); ++i) {
      for (int k = 0; k < classes; ++k) {
        double sum = 0, total = 0;
        if (given.present[i]) {
          sum = model_weight * given.probability[i * classes + k];
          total = model_weight;
        }
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          const double w = weight[votes.annotator(v)] * votes.weight(v),
                       q = votes.probability(v, k);
          sum += w * (q * c + (1 - q) * (1 - c) / (classes - 1));
          total += w;
        }
        posterior.push_back(total > 0 ? sum / total : 1.0 / classes);
      }
    }
  }
};

TEST(CrowdlabTest, EqualsItsFormulas) {
  for (const bool soft : {false, true}) {
    for (const double density : {1.0, 0.5}) {
      const Votes votes = RandomTable(31, 60, 7, 4, soft, soft).Create();
      const Distributions given = Predictions(5, 60, 4, density);
      const Crowdlab fit = Fit(votes, &given);
      const Formulas first(votes, given, TieBrokenMajority(votes, &given, here));
      EXPECT_EQ(fit.label, LikeliestClasses(first.posterior, 4));
      const Formulas expected(votes, given, fit.label);
      ExpectAllNear(fit.consensus.posterior, expected.posterior, 1e-13);
      EXPECT_NEAR(fit.model_weight, expected.model_weight, 1e-13);
      for (int r = 0; r < 6; ++r) EXPECT_NEAR(fit.weight[r], expected.weight[r], 1e-13);
      EXPECT_TRUE(std::isnan(fit.weight[6]));  // has no votes
      EXPECT_EQ(fit.worst_class[6], -1);
      for (std::size_t i = 0; i < 60; ++i) {
        EXPECT_EQ(fit.quality[i], fit.consensus.posterior[i * 4 + fit.label[i]]);
      }

      double mean = 0;
      for (int r = 0; r < 6; ++r) mean += fit.weight[r] / 6;
      const std::vector<double> active = ActiveLabScores(votes, &given, fit);
      for (std::int64_t i = 0; i < 60; ++i) {
        double trust = given.present[i] ? fit.model_weight : 0;
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          trust += fit.weight[votes.annotator(v)];
        }
        EXPECT_NEAR(active[i], (trust * fit.quality[i] + mean / 4) / (trust + mean), 1e-14);
      }
    }
  }
}

TEST(CrowdlabTest, AnItemWithoutVotesIsItsPrediction) {
  const Votes votes = RandomTable(32, 30, 5, 3).Create();
  Distributions given = Predictions(6, 30, 3);
  const Crowdlab with = Fit(votes, &given);
  for (int k = 0; k < 3; ++k) {
    EXPECT_NEAR(with.consensus.posterior[3 + k], given.probability[3 + k], 1e-15);
  }
  EXPECT_TRUE(std::isnan(with.agreement[1]));
  given.present[1] = 0;
  const Crowdlab without = Fit(votes, &given);
  for (int k = 0; k < 3; ++k) EXPECT_EQ(without.consensus.posterior[3 + k], 1 / 3.);
}

TEST(CrowdlabTest, WithoutPredictionsTheVotesAreWeighted) {
  const Votes votes = RandomTable(33, 500, 9, 3).Create();
  const Crowdlab fit = Fit(votes, nullptr);
  EXPECT_EQ(fit.model_weight, 0);
  EXPECT_GT(fit.weight[7], fit.weight[0]);
  for (int r = 0; r < 8; ++r) EXPECT_TRUE(fit.consensus.skill[r] > 0 && fit.consensus.skill[r] < 1);
  const Distributions none = Predictions(1, 500, 3, 0);
  ExpectSameBits(Fit(votes, &none).consensus.posterior, fit.consensus.posterior);
}

TEST(CrowdlabTest, HasTheSameBitsForThreadsOrdersAndCertainDistributions) {
  const Distributions given = Predictions(7, 400, 4, 0.9);
  const VoteTable t = RandomTable(34, 400, 9, 4, false, true);
  const Crowdlab one = Fit(t.Create(), &given), certain = Fit(t.OneHot().Create(), &given);
  ThreadExecutor threads(4);
  const auto many = FitCrowdlab(Shuffled(t, 3).Create(), &given, threads);
  ASSERT_TRUE(many.ok());
  for (const Crowdlab* other : {&certain, &*many}) {
    ExpectSameBits(one.consensus.posterior, other->consensus.posterior);
    ExpectSameBits(one.consensus.skill, other->consensus.skill);
    ExpectSameBits(one.weight, other->weight);
    ExpectSameBits(one.agreement, other->agreement);
    EXPECT_EQ(one.label, other->label);
    EXPECT_EQ(one.worst_class, other->worst_class);
    EXPECT_EQ(one.model_weight, other->model_weight);
  }
}

TEST(CrowdlabTest, TiesAreBrokenInTurn) {
  VoteTable t = {.classes = 3};
  // Items 0 and 1: votes 0 and 1, a tie. Items 2 to 4 have none: annotators 0 and 2 agree on class 0.
  for (const int i : {0, 1}) {
    t.Add(i, 0, 0);
    t.Add(i, 1, 1);
  }
  for (const int i : {2, 3, 4}) {
    t.Add(i, 0, i == 4 ? 1 : 0);
    t.Add(i, 2, i == 4 ? 1 : 0);
  }
  Distributions given = {.probability = std::vector<double>(15),
                         .present = std::vector<std::uint8_t>(5)};
  given.present[0] = 1;
  given.probability = {0.2, 0.1, 0.7};  // class 2 has no votes
  given.probability.resize(15);
  const auto labels = [&](const VoteTable& table) {
    return TieBrokenMajority(table.Create(), &given, here);
  };
  // Item 0 by the prediction; item 1 by the classes' counts, 6 against 4.
  EXPECT_THAT(labels(t), ElementsAre(0, 1, 0, 0, 1));
  // As many votes of 0 as of 1: annotator 0 agrees with items that have no tie, as the mean of those
  // known, which annotator 1 then gets; so the lower class.
  VoteTable even = t;
  even.Add(5, 2, 1);
  even.Add(5, 0, 1);
  given.present.push_back(0);
  given.probability.resize(18);
  EXPECT_THAT(labels(even), ElementsAre(0, 0, 0, 0, 1, 1));
  // Once annotator 0 disagrees somewhere, that side loses.
  even.Add(6, 0, 2);
  even.Add(6, 2, 0);
  even.Add(6, 3, 0);
  even.Add(7, 2, 1);
  even.Add(7, 3, 1);
  given.present.resize(8);
  given.probability.resize(24);
  EXPECT_THAT(labels(even), ElementsAre(0, 1, 0, 0, 1, 1, 0, 1));
}

TEST(CrowdlabTest, WhatNobodySharesIsTrustedEvenly) {
  VoteTable t = {.classes = 3, .items = 2, .annotators = 3};
  t.Add(0, 0, 2);
  t.Add(1, 1, 0);
  const Distributions given = {.probability = {0.5, 0.25, 0.25, 0.5, 0.5, 0}, .present = {1, 1}};
  const Crowdlab fit = Fit(t.Create(), &given);
  ExpectAllNear(fit.consensus.posterior, {0.25, 0.125, 0.625, 0.75, 0.25, 0}, 1e-15);
  EXPECT_EQ(fit.model_weight, 1);
  EXPECT_EQ(fit.weight[0], 1);
  EXPECT_NEAR(fit.consensus.skill[0], 0.625, 1e-15);  // the posterior at their own vote
  EXPECT_TRUE(std::isnan(fit.consensus.skill[2]));
}

TEST(CrowdlabTest, OneWhoSharesNoItemHasTheMeanAgreement) {
  VoteTable t = {.classes = 2, .items = 40, .annotators = 4};
  testing::Random random(3);
  for (int i = 0; i < 39; ++i) {
    for (int r = 0; r < 3; ++r) t.Add(i, r, random.Chance(0.9) ? i % 2 : 1 - i % 2);
  }
  t.Add(39, 3, 1);
  const Crowdlab fit = Fit(t.Create(), nullptr);
  EXPECT_NEAR(fit.weight[3], (fit.weight[0] + fit.weight[1] + fit.weight[2]) / 3, 1e-12);
  EXPECT_EQ(fit.consensus.skill[3], fit.consensus.posterior[39 * 2 + 1]);
}

TEST(CrowdlabTest, EdgesAreDefined) {
  // All agree on one class: the commonest class is never wrong, and weights stay finite.
  VoteTable same = {.items = 6, .annotators = 2};
  for (int i = 0; i < 6; ++i) {
    for (int r = 0; r < 2; ++r) same.Add(i, r, 1);
  }
  const Crowdlab all = Fit(same.Create(), nullptr);
  EXPECT_THAT(all.weight, Each(1));
  EXPECT_THAT(all.quality, Each(1));
  EXPECT_THAT(Fit(VoteTable{.items = 2, .annotators = 1}.Create(), nullptr).quality, Each(0.5));
  EXPECT_TRUE(Fit(VoteTable{}.Create(), nullptr).quality.empty());

  const Votes votes = RandomTable(35, 30, 4, 200).Create();
  const Distributions given = Predictions(3, 30, 200);
  const Crowdlab many = Fit(votes, &given);
  for (int i = 0; i < 30; ++i) {
    const auto row = many.consensus.posterior.begin() + i * 200;
    EXPECT_NEAR(std::accumulate(row, row + 200, 0.0), 1, 1e-12);
  }
  const Distributions fewer = Predictions(3, 29, 200);
  EXPECT_THAT(
      FitCrowdlab(votes, &fewer, here),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("predictions: must have 30 items")));
}

}  // namespace
}  // namespace softloss::annotation
