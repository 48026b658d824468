#include "kernels/annotation/dawid_skene.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/annotation/majority.h"
#include "tests/kernels/annotation/aggregation_cases.h"
#include "tests/kernels/annotation/plain_em.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::Bluebirds;
using ::softloss::testing::ExpectAllNear;
using ::softloss::testing::ExpectSameBits;
using ::softloss::testing::JsonNumbers;
using ::softloss::testing::PlainEm;
using ::softloss::testing::RandomTable;
using ::softloss::testing::SecondClass;
using ::softloss::testing::Shuffled;
using ::softloss::testing::StatusIs;
using ::softloss::testing::ThreadExecutor;
using ::softloss::testing::VoteTable;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

InlineExecutor here;

DawidSkene Fit(const Votes& votes, const DawidSkeneOptions& options = {},
               const Distributions* gold = nullptr, const DawidSkeneStart& start = {}) {
  auto fit = FitDawidSkene(votes, gold, start, options, here);
  EXPECT_TRUE(fit.ok()) << fit.status();
  return fit.ok() ? *std::move(fit) : DawidSkene();
}

// Gold answers for every seventh item.
Distributions Gold(std::int64_t items, int classes) {
  Distributions gold = {.probability = std::vector<double>(items * classes),
                        .present = std::vector<std::uint8_t>(items)};
  for (std::int64_t i = 0; i < items; i += 7) {
    gold.present[i] = 1;
    gold.probability[i * classes + i % classes] = i % 2 ? 1 : 0.75;
    if (i % 2 == 0) gold.probability[i * classes + (i + 1) % classes] += 0.25;
  }
  return gold;
}

struct Case {
  bool soft, weights, gold;
  double smoothing;
};
const Case kCases[] = {{false, false, false, 0}, {false, true, true, 0},   {true, false, false, 0},
                       {true, true, true, 0},    {false, false, false, 1}, {true, true, true, 0.5}};

TEST(DawidSkeneTest, EqualsItsFormulas) {
  for (const Case& c : kCases) {
    const Votes votes = RandomTable(11, 40, 7, 3, c.soft, c.weights).Create();
    const Distributions gold = Gold(40, 3);
    const Distributions* known = c.gold ? &gold : nullptr;
    for (const int iterations : {1, 4}) {
      const DawidSkene fit = Fit(votes,
                                 {.tolerance = 0,
                                  .max_iterations = iterations,
                                  .smoothing = c.smoothing,
                                  .prior_smoothing = c.smoothing},
                                 known);
      const PlainEm expected(votes, known, c.smoothing, iterations);
      ASSERT_EQ(fit.log_likelihood.size(), static_cast<std::size_t>(iterations));
      for (int t = 0; t < iterations; ++t) {
        EXPECT_NEAR(fit.log_likelihood[t], static_cast<double>(expected.likelihood[t]), 1e-10);
      }
      for (int i = 0; i < 40; ++i) {
        if (i == 1) continue;  // empty
        for (int k = 0; k < 3; ++k) {
          EXPECT_NEAR(fit.consensus.posterior[i * 3 + k],
                      static_cast<double>(expected.posterior[i][k]), 1e-12);
        }
      }
      for (int k = 0; k < 3; ++k) {
        EXPECT_NEAR(fit.model.prior[k], static_cast<double>(expected.prior[k]), 1e-12);
        for (int r = 0; r < 6; ++r) {
          for (int q = 0; q < 3; ++q) {
            EXPECT_NEAR(fit.model.confusion[(r * 3 + k) * 3 + q],
                        static_cast<double>(expected.confusion[r][k][q]), 1e-12);
          }
        }
      }
    }
  }
}

TEST(DawidSkeneTest, NeverLowersTheLikelihood) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    for (const Case& c : kCases) {
      const Votes votes = RandomTable(seed, 120, 8, 4, c.soft, c.weights).Create();
      const Distributions gold = Gold(120, 4);
      const DawidSkene fit = Fit(votes,
                                 {.tolerance = 0,
                                  .max_iterations = 60,
                                  .smoothing = c.smoothing,
                                  .prior_smoothing = c.smoothing},
                                 c.gold ? &gold : nullptr);
      for (std::size_t t = 1; t < fit.log_likelihood.size(); ++t) {
        EXPECT_GE(fit.log_likelihood[t],
                  fit.log_likelihood[t - 1] - 1e-13 * std::abs(fit.log_likelihood[t]))
            << t;
      }
    }
  }
}

TEST(DawidSkeneTest, MeetsTheBluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
  const auto expected = [&](const std::string& key) {
    return JsonNumbers(folder / "expected.json", {"dawid_skene_converged", key});
  };
  const Votes votes = Bluebirds(folder).Create();
  const DawidSkene fit = Fit(votes, {.tolerance = 0, .max_iterations = 100});
  // crowd-kit keeps probabilities at 1e-10 at least.
  ExpectAllNear(SecondClass(fit.consensus.posterior), expected("p1"), 1e-10);
  ExpectAllNear(fit.model.prior, expected("prior"), 1e-12);
  ExpectAllNear(fit.model.confusion, expected("error_obs_given_true"), 2e-12);

  int right = 0;
  const auto label = LikeliestClasses(fit.consensus.posterior, 2);
  std::vector<double> tasks = JsonNumbers(folder / "expected.json", {"tasks"});
  for (const auto& row : testing::ReadCsv(folder / "truth.csv")) {
    const auto i = std::find(tasks.begin(), tasks.end(), std::stod(row[0])) - tasks.begin();
    right += label[i] == std::stoi(row[1]);
  }
  EXPECT_EQ(right, 97);

  const DawidSkene stopped = Fit(votes);
  EXPECT_TRUE(stopped.converged);
  EXPECT_LT(stopped.log_likelihood.size(), 40u);
  ExpectAllNear(stopped.consensus.posterior, fit.consensus.posterior, 1e-5);
  EXPECT_NEAR(stopped.log_likelihood.back(), fit.log_likelihood.back(), 1e-6);
}

TEST(DawidSkeneTest, CertainDistributionsAreHardVotes) {
  const VoteTable t = RandomTable(5, 200, 9, 3, false, true);
  const DawidSkene hard = Fit(t.Create()), soft = Fit(t.OneHot().Create());
  ExpectSameBits(hard.consensus.posterior, soft.consensus.posterior);
  ExpectSameBits(hard.consensus.skill, soft.consensus.skill);
  ExpectSameBits(hard.model.confusion, soft.model.confusion);
  ExpectSameBits(hard.log_likelihood, soft.log_likelihood);
}

TEST(DawidSkeneTest, HasTheSameBitsForThreadsAndOrders) {
  for (const Case& c : kCases) {
    const VoteTable t = RandomTable(6, 500, 9, 5, c.soft, c.weights);
    const DawidSkeneOptions options = {.smoothing = c.smoothing};
    const DawidSkene one = Fit(t.Create(), options);
    ThreadExecutor threads(4);
    const auto many = FitDawidSkene(Shuffled(t, 1).Create(), nullptr, {}, options, threads);
    ASSERT_TRUE(many.ok());
    ExpectSameBits(one.consensus.posterior, many->consensus.posterior);
    ExpectSameBits(one.consensus.skill, many->consensus.skill);
    ExpectSameBits(one.model.confusion, many->model.confusion);
    ExpectSameBits(one.log_likelihood, many->log_likelihood);
  }
}

TEST(DawidSkeneTest, GoldAnswersStand) {
  const Votes votes = RandomTable(8, 100, 6, 3).Create();
  const Distributions gold = Gold(100, 3);
  const DawidSkene fit = Fit(votes, {}, &gold);
  for (int i = 0; i < 100; i += 7) {
    for (int k = 0; k < 3; ++k) {
      EXPECT_EQ(fit.consensus.posterior[i * 3 + k], gold.probability[i * 3 + k]);
    }
  }
  // Those who contradict it lose: everyone says 0 on items known to be 1, and so on others, too.
  VoteTable t = {.items = 20, .annotators = 2};
  Distributions known = {.probability = std::vector<double>(40),
                         .present = std::vector<std::uint8_t>(20)};
  for (int i = 0; i < 20; ++i) {
    t.Add(i, 0, 0);
    t.Add(i, 1, i % 2);
    if (i >= 12) continue;
    known.present[i] = 1;
    known.probability[i * 2 + i % 2] = 1;
  }
  const DawidSkene taught = Fit(t.Create(), {.smoothing = 0.1}, &known);
  for (int i = 12; i < 20; ++i) EXPECT_GT(taught.consensus.posterior[i * 2 + i % 2], 0.95);
  EXPECT_NEAR(taught.consensus.skill[0], 0.5, 0.02);
  EXPECT_NEAR(taught.consensus.skill[1], 1, 0.02);
}

TEST(DawidSkeneTest, AWarmStartReachesTheSamePointSooner) {
  const Votes votes = RandomTable(9, 400, 12, 3).Create();
  const DawidSkeneOptions options = {.tolerance = 1e-13, .max_iterations = 2000, .smoothing = 0.1};
  const DawidSkene cold = Fit(votes, options);
  ASSERT_TRUE(cold.converged);
  const DawidSkene by_model = Fit(votes, options, nullptr, {.model = &cold.model});
  const DawidSkene by_posterior =
      Fit(votes, options, nullptr, {.posterior = cold.consensus.posterior});
  for (const DawidSkene* warm : {&by_model, &by_posterior}) {
    EXPECT_LT(warm->log_likelihood.size(), cold.log_likelihood.size() / 2);
    EXPECT_NEAR(warm->log_likelihood.back(), cold.log_likelihood.back(), 1e-8);
    ExpectAllNear(warm->consensus.posterior, cold.consensus.posterior, 1e-5);
  }
}

TEST(DawidSkeneTest, ATableThatGrowsIsUpdatedByAFewSteps) {
  // The last of 12 annotators, of whom the model then has NaN, and the last fifth of the items
  // come later.
  VoteTable late = RandomTable(10, 1000, 13, 3);
  VoteTable early = late;
  early.items = 800;
  std::size_t kept = 0;
  for (std::size_t v = 0; v < late.item.size(); ++v) {
    if (late.annotator[v] >= 11 || late.item[v] >= 800) continue;
    early.item[kept] = late.item[v];
    early.annotator[kept] = late.annotator[v];
    early.label[kept++] = late.label[v];
  }
  early.item.resize(kept);
  early.annotator.resize(kept);
  early.label.resize(kept);
  late.Add(1, 11, 2);  // an item that only the new annotator saw

  const DawidSkeneOptions options = {.smoothing = 0.5};
  const DawidSkene before = Fit(early.Create(), options);
  const Votes votes = late.Create();
  const DawidSkene cold = Fit(votes, options);
  const DawidSkeneOptions few = {.max_iterations = 3, .smoothing = 0.5};
  const DawidSkene updated = Fit(votes, few, nullptr, {.model = &before.model});
  const DawidSkene from_majority = Fit(votes, few);
  EXPECT_GT(updated.log_likelihood.back(), from_majority.log_likelihood.back());
  const auto distance = [&](const DawidSkene& fit) {
    double sum = 0;
    for (std::size_t i = 0; i < cold.consensus.posterior.size(); ++i) {
      sum += std::abs(fit.consensus.posterior[i] - cold.consensus.posterior[i]);
    }
    return sum;
  };
  EXPECT_LT(distance(updated), 0.5 * distance(from_majority));
  // A few steps more, and it is where a fit from nothing ends.
  ExpectAllNear(Fit(votes, options, nullptr, {.model = &before.model}).consensus.posterior,
                cold.consensus.posterior, 1e-3);
}

TEST(DawidSkeneTest, NewItemsAreReadUnderAFittedModel) {
  const Votes votes = RandomTable(12, 200, 8, 3, true).Create();
  const DawidSkene fit = Fit(votes, {.tolerance = 0, .max_iterations = 300, .smoothing = 1});
  const auto read = DawidSkenePosterior(votes, fit.model, here);
  ASSERT_TRUE(read.ok());
  ExpectAllNear(*read, fit.consensus.posterior, 1e-9);
  ExpectAllNear({read->begin() + 3, read->begin() + 6}, fit.model.prior, 1e-15);  // has no votes

  DawidSkeneModel fewer = fit.model;  // knows the first annotator only
  fewer.confusion.resize(9);
  const auto by_one = DawidSkenePosterior(votes, fewer, here);
  ASSERT_TRUE(by_one.ok());
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    std::vector<double> expected = fewer.prior;
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      if (votes.annotator(v) != 0) continue;
      for (int s = 0; s < 3; ++s) {
        for (int k = 0; k < 3; ++k) {
          expected[s] *= std::pow(fewer.confusion[s * 3 + k], votes.probability(v, k));
        }
      }
    }
    const double sum = expected[0] + expected[1] + expected[2];
    for (int s = 0; s < 3; ++s) EXPECT_NEAR((*by_one)[i * 3 + s], expected[s] / sum, 1e-12);
  }
}

TEST(DawidSkeneTest, StatesNeedNotBeTheAnswers) {
  // Answers no, maybe, yes to what is true or not; one person says maybe to whatever is true.
  testing::Random random(4);
  VoteTable t = {.classes = 3, .items = 600, .annotators = 5};
  std::vector<double> start(1200);
  for (int i = 0; i < 600; ++i) {
    double yes = 0;
    for (int r = 0; r < 5; ++r) {
      const bool right = random.Chance(0.8);
      const bool truth = (i % 2 == 1) == right;
      t.Add(i, r, truth ? (r == 4 ? 1 : 2) : 0);
      yes += t.label.back() / 10.0;
    }
    start[i * 2 + 1] = yes;
    start[i * 2] = 1 - yes;
  }
  const DawidSkene fit = Fit(t.Create(), {.smoothing = 1}, nullptr, {.posterior = start});
  EXPECT_EQ(fit.model.num_states, 2);
  ASSERT_EQ(fit.model.confusion.size(), 5u * 2 * 3);
  EXPECT_NEAR(fit.model.confusion[4 * 6 + 3 + 1], 0.8, 0.06);  // annotator 4, true, maybe
  EXPECT_NEAR(fit.model.confusion[3 * 6 + 3 + 2], 0.8, 0.06);  // annotator 3, true, yes
  int right = 0;
  for (int i = 0; i < 600; ++i) right += (fit.consensus.posterior[i * 2 + 1] > 0.5) == (i % 2 == 1);
  EXPECT_GT(right, 540);
  for (const double skill : fit.consensus.skill) EXPECT_TRUE(std::isnan(skill));
}

TEST(DawidSkeneTest, ProductsOfManyVotesDoNotUnderflow) {
  // Products from 1e-100 to 1e-1000, through where a double loses its digits and where it is 0.
  VoteTable t = {.classes = 3};
  testing::Random random(2);
  for (int i = 0; i < 150; ++i) {
    for (int r = 0; r < 300 + 15 * i; ++r) {
      t.Add(i, r, random.Chance(0.05) ? i % 3 : static_cast<int>(random.Int(0, 3)));
    }
  }
  const Votes votes = t.Create();
  const DawidSkeneOptions options = {
      .tolerance = 0, .max_iterations = 2, .smoothing = 1, .prior_smoothing = 1};
  const DawidSkene fit = Fit(votes, options);
  const PlainEm expected(votes, nullptr, 1, 2);
  for (int i = 0; i < 150; ++i) {
    for (int k = 0; k < 3; ++k) {
      EXPECT_NEAR(fit.consensus.posterior[i * 3 + k], static_cast<double>(expected.posterior[i][k]),
                  1e-10);
    }
  }
  EXPECT_NEAR(fit.log_likelihood[1] / static_cast<double>(expected.likelihood[1]), 1, 1e-12);
}

TEST(DawidSkeneTest, EdgesAreDefined) {
  // One annotator: agrees with themselves.
  VoteTable alone = {.classes = 3, .items = 4, .annotators = 1};
  for (const int i : {0, 1, 3}) alone.Add(i, 0, i == 3 ? 2 : 0);
  const DawidSkene one = Fit(alone.Create());
  ExpectAllNear(one.consensus.posterior, {1, 0, 0, 1, 0, 0, 2 / 3., 0, 1 / 3., 0, 0, 1}, 1e-12);
  EXPECT_THAT(one.consensus.skill, ElementsAre(1));
  // A state never met is uniform over what the annotator votes.
  ExpectAllNear(one.model.confusion, {1, 0, 0, 0.5, 0, 0.5, 0, 0, 1}, 1e-12);

  // All agree on one class.
  VoteTable same = {.items = 5, .annotators = 3};
  for (int i = 0; i < 5; ++i) {
    for (int r = 0; r < 2; ++r) same.Add(i, r, 1);
  }
  const DawidSkene all = Fit(same.Create());
  EXPECT_THAT(SecondClass(all.consensus.posterior), Each(1));
  EXPECT_NEAR(all.log_likelihood.back(), 0, 1e-12);
  EXPECT_EQ(all.consensus.skill[0], 1);
  EXPECT_TRUE(std::isnan(all.consensus.skill[2]));  // has no votes
  EXPECT_TRUE(std::isnan(all.model.confusion[2 * 4]));

  // No votes, no items, no iterations.
  const VoteTable none = {.items = 2, .annotators = 1};
  EXPECT_THAT(Fit(none.Create()).consensus.posterior, Each(0.5));
  EXPECT_TRUE(Fit(VoteTable{}.Create()).consensus.posterior.empty());
  const Votes votes = RandomTable(3, 30, 5, 2).Create();
  const DawidSkene still = Fit(votes, {.max_iterations = 0});
  ExpectSameBits(still.consensus.posterior, MajorityVote(votes, {}, here).posterior);
  EXPECT_TRUE(still.log_likelihood.empty());

  // Many classes.
  const DawidSkene many =
      Fit(RandomTable(3, 300, 6, 200).Create(), {.max_iterations = 5, .smoothing = 0.01});
  for (std::size_t i = 0; i < 300; ++i) {
    const auto row = many.consensus.posterior.begin() + i * 200;
    EXPECT_NEAR(std::accumulate(row, row + 200, 0.0), 1, 1e-12);
  }
}

TEST(DawidSkeneTest, SaysWhatIsWrong) {
  const Votes votes = RandomTable(3, 30, 5, 2).Create();
  const auto error = [&](const Distributions* gold, const DawidSkeneStart& start,
                         const DawidSkeneOptions& options) {
    return FitDawidSkene(votes, gold, start, options, here).status();
  };
  const auto invalid = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  EXPECT_THAT(error(nullptr, {}, {.smoothing = -1}),
              invalid("smoothing: must be finite and not negative; was -1"));
  EXPECT_THAT(error(nullptr, {}, {.max_iterations = -1}), invalid("max_iterations"));
  const std::vector<double> posterior(61);
  EXPECT_THAT(error(nullptr, {.posterior = posterior}, {}), invalid("start.posterior"));
  Distributions gold = Gold(30, 2);
  gold.probability[1] = -0.5;
  EXPECT_THAT(error(&gold, {}, {}),
              invalid("gold[0][1]: must be finite and not negative; was -0.5"));
  gold.probability[1] = 1;
  EXPECT_THAT(error(&gold, {}, {}), invalid("gold[0]: must sum to 1"));
  gold = Gold(29, 2);
  EXPECT_THAT(error(&gold, {}, {}), invalid("gold: must have 30 items of 2 classes"));
  DawidSkeneModel model = Fit(votes).model;
  model.num_classes = 3;
  EXPECT_THAT(error(nullptr, {.model = &model}, {}), invalid("model.num_classes"));
  model.num_classes = 2;
  model.confusion.resize(6 * 4);
  EXPECT_THAT(error(nullptr, {.model = &model}, {}), invalid("model.confusion"));
  EXPECT_THAT(DawidSkenePosterior(votes, model, here), invalid("model.confusion"));
}

}  // namespace
}  // namespace softloss::annotation
