#include "kernels/annotation/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "kernels/annotation/alerts.h"
#include "kernels/annotation/analysis_columns.h"
#include "kernels/annotation/answer_metrics.h"
#include "kernels/annotation/majority.h"
#include "kernels/annotation/temperature.h"
#include "tests/testing/random.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using softloss::testing::Random;
using softloss::testing::ThreadExecutor;
using ::testing::HasSubstr;

constexpr int kClasses = 3, kAnnotators = 12, kItems = 1000;
constexpr int kBlind = 4, kCollapsed = 7, kDrifting = 9;

// Everyone votes on half of the items and errs one time in ten, but for three: kBlind votes by the
// throw of dice, kCollapsed says 2 always, and kDrifting begins to err in the last fifth of the time.
// Items whose number ends in 0 and are labelled by nobody else have one vote, which is wrong, by an
// annotator who is otherwise good.
struct Campaign {
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> annotator, label, truth;
  std::vector<double> time;
  Distributions model;

  explicit Campaign(bool soft = false) {
    Random random(11);
    model.probability.assign(kItems * kClasses, 0.05);
    model.present.assign(kItems, 1);
    for (int i = 0; i < kItems; ++i) {
      truth.push_back(static_cast<std::int32_t>(random.Int(0, kClasses)));
      model.probability[i * kClasses + truth[i]] = 0.9;
      for (int r = 0; r < kAnnotators; ++r) {
        const bool lone = i % 10 == 0;
        if (lone ? r != i / 10 % 3 : random.Chance(0.5)) continue;
        double error = 0.1;
        if (r == kDrifting && i >= kItems * 4 / 5) error = 0.7;
        std::int32_t vote = truth[i];
        if (random.Chance(error) || lone)
          vote = (vote + 1 + static_cast<int>(random.Int(0, 2))) % kClasses;
        if (r == kBlind) vote = static_cast<std::int32_t>(random.Int(0, kClasses));
        if (r == kCollapsed) vote = 2;
        item.push_back(i);
        annotator.push_back(r);
        label.push_back(vote);
        time.push_back(1000.0 * i);
      }
    }
    if (!soft) return;
    for (const std::int32_t vote : label) {
      for (int k = 0; k < kClasses; ++k) probabilities.push_back(vote == k ? 1 : 0);
    }
    label.clear();
  }

  Votes votes() const {
    auto made = Votes::Create({.num_classes = kClasses,
                               .num_items = kItems,
                               .num_annotators = kAnnotators,
                               .item = item,
                               .annotator = annotator,
                               .label = label,
                               .probabilities = probabilities,
                               .time = time});
    EXPECT_TRUE(made.ok()) << made.status();
    return made.value_or(Votes());
  }
  std::vector<double> probabilities;
};

Analysis AnalysisOf(const Campaign& c, bool with_model, const Distributions* gold = nullptr,
                    int threads = 1, const AnalysisOptions& options = {}) {
  ThreadExecutor executor(threads);
  auto out = Analyze(c.votes(), with_model ? &c.model : nullptr, gold, options, executor);
  EXPECT_TRUE(out.ok()) << out.status();
  return *std::move(out);
}

std::string Bits(const Analysis& analysis) {
  std::string out;
  for (const Column& column : ToColumns(analysis)) {
    out += column.name;
    std::visit(
        [&](const auto& values) {
          for (auto value : values) {
            if (value != value) value = 0;  // a NaN's sign is nobody's
            out.append(reinterpret_cast<const char*>(&value), sizeof value);
          }
        },
        column.values);
  }
  return out;
}

TEST(AnalysisTest, WhoeverWasPlantedIsFound) {
  for (const bool with_model : {false, true}) {
    const Analysis a = AnalysisOf(Campaign(), with_model);
    EXPECT_EQ(a.method, with_model ? ConsensusMethod::kCrowdlab : ConsensusMethod::kDawidSkene);
    std::set<std::pair<AlertKind, std::int64_t>> alerts;
    for (const Alert& alert : a.alerts) alerts.insert({alert.kind, alert.annotator});
    const std::set<std::pair<AlertKind, std::int64_t>> expected = {
        {AlertKind::kBelowThreshold, kBlind},
        {AlertKind::kBelowThreshold, kCollapsed},
        {AlertKind::kDrift, kDrifting},
        {AlertKind::kSpammer, kCollapsed},
        {AlertKind::kClassCollapse, kCollapsed}};
    for (const auto& alert : expected) EXPECT_TRUE(alerts.contains(alert)) << alert.second;
    // The blind one is one of chance: near the threshold for spammers, and nobody else is.
    for (const auto& [kind, annotator] : alerts) {
      EXPECT_TRUE(annotator == kBlind || annotator == kCollapsed || annotator == kDrifting)
          << annotator;
    }
    for (int r = 0; r < kAnnotators; ++r) {
      if (r == kBlind || r == kCollapsed) continue;
      EXPECT_LT(a.annotator.quality[kBlind].high, a.annotator.quality[r].low) << r;
      EXPECT_LT(a.annotator.quality[kCollapsed].high, a.annotator.quality[r].low) << r;
    }
    EXPECT_LT(a.annotator.spammer[kBlind], 0.15);
    EXPECT_LT(a.annotator.spammer[kCollapsed], 1e-3);
  }
}

TEST(AnalysisTest, FlippedLabelsLeadTheWorklist) {
  const Campaign campaign;
  const Analysis a = AnalysisOf(campaign, true);
  // Ranked by it, wrong labels come before right ones, nearly without exception.
  double before = 0, wrong = 0;
  for (const std::int64_t i : a.worklist) {
    const bool right = a.item.majority[i] == campaign.truth[i];
    if (right) before += wrong;
    wrong += !right;
  }
  EXPECT_GE(wrong, 100);  // the lone ones, and some more
  EXPECT_GT(before / (wrong * (static_cast<double>(a.worklist.size()) - wrong)), 0.99);
  for (std::size_t n = 0; n < 50; ++n) {
    const std::int64_t i = a.worklist[n];
    EXPECT_NE(a.item.majority[i], campaign.truth[i]);
    EXPECT_EQ(a.item.issue[i], 1);
  }
  for (std::size_t n = 1; n < a.worklist.size(); ++n) {
    EXPECT_LE(a.item.label_quality[a.worklist[n - 1]], a.item.label_quality[a.worklist[n]]);
  }
}

TEST(AnalysisTest, TheBitsDoNotDependOnThreadsNorOnTheOrderOfRows) {
  Campaign campaign;
  const std::string bits = Bits(AnalysisOf(campaign, true));
  EXPECT_EQ(Bits(AnalysisOf(campaign, true, nullptr, 4)), bits);
  Random random(3);
  for (std::size_t n = campaign.item.size() - 1; n > 0; --n) {
    const auto m = static_cast<std::size_t>(random.Int(0, static_cast<std::int64_t>(n) + 1));
    std::swap(campaign.item[n], campaign.item[m]);
    std::swap(campaign.annotator[n], campaign.annotator[m]);
    std::swap(campaign.label[n], campaign.label[m]);
    std::swap(campaign.time[n], campaign.time[m]);
  }
  EXPECT_EQ(Bits(AnalysisOf(campaign, true)), bits);
}

TEST(AnalysisTest, OneHotVotesAreHardVotes) {
  for (const bool with_model : {false, true}) {
    const Analysis hard = AnalysisOf(Campaign(), with_model),
                   soft = AnalysisOf(Campaign(true), with_model);
    const auto hard_columns = ToColumns(hard), soft_columns = ToColumns(soft);
    ASSERT_EQ(hard_columns.size(), soft_columns.size());
    for (std::size_t c = 0; c < hard_columns.size(); ++c) {
      const auto* h = std::get_if<std::vector<double>>(&hard_columns[c].values);
      const auto* s = std::get_if<std::vector<double>>(&soft_columns[c].values);
      ASSERT_EQ(hard_columns[c].name, soft_columns[c].name);
      if (h == nullptr) {
        EXPECT_EQ(hard_columns[c].values, soft_columns[c].values) << hard_columns[c].name;
        continue;
      }
      ASSERT_EQ(h->size(), s->size());
      for (std::size_t n = 0; n < h->size(); ++n) {
        if (std::isnan((*h)[n])) {
          EXPECT_TRUE(std::isnan((*s)[n])) << hard_columns[c].name << n;
        } else {
          EXPECT_NEAR((*h)[n], (*s)[n], 1e-12) << hard_columns[c].name << n;
        }
      }
    }
  }
}

TEST(AnalysisTest, FiguresOfAnnotatorsAreThoseOfTheirVotes) {
  const Campaign c;
  const Analysis a = AnalysisOf(c, true);
  // By hand, for one annotator.
  constexpr int kWho = 2;
  double model = 0, brier = 0, cross_entropy = 0, consensus = 0;
  int votes = 0, compared = 0;
  for (std::size_t v = 0; v < c.item.size(); ++v) {
    if (c.annotator[v] != kWho) continue;
    ++votes;
    const bool right = c.label[v] == c.truth[c.item[v]];
    model += right;
    brier += right ? 0.1 * 0.1 + 2 * 0.05 * 0.05 : 0.9 * 0.9 + 0.95 * 0.95 + 0.05 * 0.05;
    cross_entropy -= std::log(right ? 0.9 : 0.05);
    double count[kClasses] = {};
    int others = 0;
    for (std::size_t w = 0; w < c.item.size(); ++w) {
      if (c.item[w] != c.item[v] || w == v) continue;
      ++others;
      ++count[c.label[w]];
    }
    if (others == 0) continue;
    ++compared;
    const double most = std::max({count[0], count[1], count[2]});
    int equals = 0;
    for (const double n : count) equals += n == most;
    if (count[c.label[v]] == most) consensus += 1.0 / equals;
  }
  EXPECT_EQ(a.annotator.votes[kWho], votes);
  EXPECT_NEAR(a.annotator.agreement_model[kWho].value, model / votes, 1e-12);
  EXPECT_NEAR(a.annotator.brier[kWho].value, brier / votes, 1e-12);
  EXPECT_NEAR(a.annotator.cross_entropy[kWho].value, cross_entropy / votes, 1e-12);
  EXPECT_NEAR(a.annotator.kl[kWho].value, cross_entropy / votes, 1e-12);  // hard votes
  EXPECT_NEAR(a.annotator.agreement_consensus[kWho].value, consensus / compared, 1e-12);
  EXPECT_EQ(a.annotator.agreement_consensus[kWho].n, compared);
  for (const Figure& f :
       {a.annotator.brier[kWho], a.annotator.agreement_model[kWho], a.annotator.quality[kWho]}) {
    EXPECT_LT(f.low, f.value);
    EXPECT_GT(f.high, f.value);
    EXPECT_LT(f.high - f.low, 0.5 * f.value + 0.1);
  }
}

TEST(AnalysisTest, ScoresOfItemsAreTheirFormulas) {
  const Campaign c;
  const Votes votes = c.votes();
  const Analysis a = AnalysisOf(c, true);
  InlineExecutor here;
  const Consensus majority = MajorityVote(votes, {}, here);
  const std::vector<double>& t = a.class_.self_confidence;
  const double most = *std::max_element(t.begin(), t.end());
  for (int i = 0; i < kItems; ++i) {
    const double* const p = &c.model.probability[i * kClasses];
    const double* const q = &majority.posterior[i * kClasses];
    double adjusted[kClasses], sum = 0, entropy = 0, own = 0, self = 0, margin = 0, of_p = 0;
    for (int k = 0; k < kClasses; ++k) sum += adjusted[k] = p[k] - t[k] + most;
    for (double& x : adjusted) x /= sum;
    for (int k = 0; k < kClasses; ++k) {
      own += q[k] * p[k];
      of_p -= p[k] * std::log(p[k]);
      entropy -= adjusted[k] * std::log(adjusted[k]);
      self += q[k] * adjusted[k];
      const double rival = std::max(adjusted[(k + 1) % kClasses], adjusted[(k + 2) % kClasses]);
      margin += q[k] * (adjusted[k] - rival + 1) / 2;
    }
    const double h = of_p / std::log(kClasses) / own;
    EXPECT_NEAR(a.item.confidence_weighted_entropy[i], std::log1p(h) / h, 1e-12);
    EXPECT_NEAR(a.item.adjusted_self_confidence[i], self, 1e-12);
    EXPECT_NEAR(a.item.adjusted_normalized_margin[i], margin, 1e-12);
    EXPECT_NEAR(a.item.in_distribution[i], 1 - entropy / std::log(kClasses), 1e-12);
  }
  // Of the majority, with the people as good as they agree with it: answer_metrics.h.
  const auto label = LikeliestClasses(majority.posterior, kClasses);
  EXPECT_EQ(a.item.consistency, Consistency(votes, majority.skill, label, here));
  EXPECT_EQ(a.item.uncertainty, ItemUncertainty(votes, majority.skill, here));
  EXPECT_EQ(a.annotator.uncertainty, AnnotatorUncertainty(votes, majority.skill));
}

TEST(AnalysisTest, PredictionsAreCalibratedWhereAskedFor) {
  Campaign c;
  // Much surer than the people are.
  for (double& p : c.model.probability) p = p > 0.5 ? 0.9998 : 0.0001;
  const Analysis as_is = AnalysisOf(c, true);
  const Analysis calibrated = AnalysisOf(c, true, nullptr, 1, {.calibrate_predictions = true});
  EXPECT_EQ(as_is.temperature, 1);
  EXPECT_GT(calibrated.temperature, 1.5);
  EXPECT_LT(calibrated.ece_equal_width, as_is.ece_equal_width / 2);
  Campaign scaled = c;
  scaled.model = ScaleByTemperature(c.model, kClasses, calibrated.temperature);
  Analysis expected = AnalysisOf(scaled, true);
  expected.temperature = calibrated.temperature;
  EXPECT_EQ(Bits(calibrated), Bits(expected));
  EXPECT_EQ(AnalysisOf(c, false, nullptr, 1, {.calibrate_predictions = true}).temperature, 1);
}

TEST(AnalysisTest, GoldAnswersAreTaken) {
  const Campaign c;
  Distributions gold;
  gold.probability.assign(kItems * kClasses, 0);
  gold.present.assign(kItems, 0);
  for (int i = 0; i < kItems; i += 10) {
    gold.present[i] = 1;
    gold.probability[i * kClasses + c.truth[i]] = 1;
  }
  for (const auto method : {ConsensusMethod::kAuto, ConsensusMethod::kMajority}) {
    const Analysis a = AnalysisOf(c, false, &gold, 1, {.method = method});
    for (int i = 0; i < kItems; i += 10) {
      EXPECT_EQ(a.item.consensus[i], c.truth[i]);
      EXPECT_EQ(a.item.confidence[i], 1);
      EXPECT_EQ(a.item.gold[i], 1);
    }
    for (const std::int64_t i : a.worklist) EXPECT_NE(i % 10, 0);
    EXPECT_EQ(a.annotator.agreement_gold[0].value, 0);  // all lone votes are wrong
    EXPECT_EQ(a.annotator.agreement_gold[5].n, 0);
    EXPECT_TRUE(std::isnan(a.annotator.agreement_gold[5].value));
  }
}

TEST(AnalysisTest, DriftHasItsWindows) {
  const Analysis a = AnalysisOf(Campaign(), false, nullptr, 1, {.drift_windows = 5});
  std::vector<DriftWindow> own;
  for (const DriftWindow& w : a.drift) {
    if (w.annotator == kDrifting) own.push_back(w);
  }
  ASSERT_EQ(own.size(), 5u);
  for (int w = 0; w < 4; ++w) {
    EXPECT_GT(own[w].agreement.value, 0.8);
    EXPECT_LT(own[w].end, own[w + 1].start);
  }
  EXPECT_LT(own[4].agreement.value, 0.5);
}

TEST(AnalysisTest, LittleOrNothingIsDefined) {
  InlineExecutor executor;
  // No votes at all.
  const auto none = Votes::Create({.num_classes = 2, .num_items = 2, .num_annotators = 0});
  ASSERT_TRUE(none.ok());
  auto a = Analyze(*none, nullptr, nullptr, {}, executor);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_TRUE(a->worklist.empty());
  EXPECT_EQ(a->item.consensus[0], -1);
  EXPECT_TRUE(std::isnan(a->agreement.alpha_nominal));

  // One annotator, one class, and an annotator and an item without votes.
  const std::vector<std::int64_t> item = {0, 1};
  const std::vector<std::int32_t> annotator = {1, 1}, label = {1, 1};
  const auto one = Votes::Create({.num_classes = 2,
                                  .num_items = 3,
                                  .num_annotators = 2,
                                  .item = item,
                                  .annotator = annotator,
                                  .label = label});
  ASSERT_TRUE(one.ok());
  for (const auto method :
       {ConsensusMethod::kAuto, ConsensusMethod::kWawa, ConsensusMethod::kOneCoin,
        ConsensusMethod::kDawidSkene, ConsensusMethod::kCrowdlab, ConsensusMethod::kMajority}) {
    a = Analyze(*one, nullptr, nullptr, {.method = method}, executor);
    ASSERT_TRUE(a.ok()) << a.status();
    EXPECT_EQ(a->item.consensus[0], 1);
    EXPECT_EQ(a->item.consensus[2], -1);
    EXPECT_EQ(a->annotator.votes[0], 0);
    EXPECT_TRUE(std::isnan(a->annotator.quality[0].value));
    EXPECT_TRUE(std::isnan(a->annotator.agreement_consensus[1].value));
    EXPECT_TRUE(a->alerts.empty());
    EXPECT_TRUE(a->reliability.empty());
  }
}

// 3000² numbers an annotator are more than an analysis may take for EM; the rest is there.
TEST(AnalysisTest, ManyClassesGoWithoutMatrices) {
  InlineExecutor executor;
  const std::vector<std::int64_t> item = {0, 0};
  const std::vector<std::int32_t> annotator = {0, 1}, label = {2999, 2999};
  const auto votes = Votes::Create({.num_classes = 3000,
                                    .num_items = 1,
                                    .num_annotators = 2,
                                    .item = item,
                                    .annotator = annotator,
                                    .label = label});
  ASSERT_TRUE(votes.ok());
  const auto a = Analyze(*votes, nullptr, nullptr, {}, executor);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->method, ConsensusMethod::kMajority);
  EXPECT_EQ(a->item.consensus[0], 2999);
  EXPECT_TRUE(a->annotator.confusion.empty());
  EXPECT_TRUE(std::isnan(a->annotator.accuracy[0]));
  for (const auto method : {ConsensusMethod::kOneCoin, ConsensusMethod::kDawidSkene}) {
    const auto status = Analyze(*votes, nullptr, nullptr, {.method = method}, executor).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("take K² numbers an annotator"));
  }
}

TEST(AnalysisTest, BadOptionsAreNamed) {
  const auto error = [](const AnalysisOptions& options) {
    return std::string(Validate(options, 3).message());
  };
  EXPECT_EQ(error({}), "");
  EXPECT_EQ(error({.class_values = {1, 2}}),
            "options.class_values: must have 3 values, one a class; has 2");
  EXPECT_EQ(error({.class_values = {1, 2, std::nan("")}}),
            "options.class_values: must be finite; has nan");
  EXPECT_EQ(error({.bootstrap_replicates = -1}),
            "options.bootstrap_replicates: must be from 0 to 10000; was -1");
  EXPECT_EQ(error({.min_agreement = 1.5}), "options.min_agreement: must be from 0 to 1; was 1.5");
  EXPECT_THAT(error({.spammer_score = std::nan("")}), HasSubstr("spammer_score"));
}

TEST(SpammerScoresTest, AreZeroWhereRowsAreEqualAndOneWhereTheyAreApart) {
  const std::vector<double> confusion = {1,   0,   0,   1,    // never errs
                                         0.3, 0.7, 0.3, 0.7,  // blind
                                         0,   1,   1,   0,    // always wrong, but tells all
                                         0.8, 0.2, 0.4, 0.6};
  EXPECT_THAT(SpammerScores(confusion, 4, 2),
              ::testing::ElementsAre(1, 0, 1, ::testing::DoubleNear(0.4, 1e-15)));
  EXPECT_TRUE(std::isnan(SpammerScores({}, 1, 2)[0]));
}

}  // namespace
}  // namespace softloss::annotation
