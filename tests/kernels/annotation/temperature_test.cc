#include "kernels/annotation/temperature.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/annotation/aggregation_cases.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::ExpectAllNear;
using ::softloss::testing::JsonNumber;
using ::softloss::testing::VoteTable;

InlineExecutor here;

TEST(TemperatureTest, IsCleanlabsOnTheBluebirds) {
  const auto folder = testing::DataSet("bluebirds");
  if (folder.empty()) GTEST_SKIP() << "no data set bluebirds";
  const auto path = folder / "expected.json";
  const VoteTable all = testing::Bluebirds(folder);
  VoteTable kept = {.items = all.items, .annotators = all.annotators};
  for (std::size_t v = 0; v < all.item.size(); ++v) {  // the file's rule of what is missing
    if ((all.item[v] + 3 * all.annotator[v]) % 4 == 0) continue;
    kept.Add(all.item[v], all.annotator[v], all.label[v]);
  }
  Distributions predictions;
  for (const double p : testing::JsonNumbers(path, {"crowdlab", "p1"})) {
    predictions.probability.insert(predictions.probability.end(), {1 - p, p});
    predictions.present.push_back(1);
  }
  const Votes votes = kept.Create();
  EXPECT_NEAR(CrossEntropyOfMeanVotes(votes, predictions, here),
              JsonNumber(path, {"soft_cross_entropy_mean_base_K"}), 1e-12);
  EXPECT_EQ(BestTemperature(votes, predictions, here), JsonNumber(path, {"best_temperature"}));
}

TEST(TemperatureTest, RaisesToAPower) {
  const Distributions given = {.probability = {0.5, 0.25, 0.25, 9, 9, 9, 0, 0.2, 0.8},
                               .present = {1, 0, 1}};
  const Distributions half = ScaleByTemperature(given, 3, 0.5);
  ExpectAllNear(half.probability, {4 / 6., 1 / 6., 1 / 6., 9, 9, 9, 0, 1 / 17., 16 / 17.}, 1e-15);
  ExpectAllNear(ScaleByTemperature(half, 3, 2).probability, given.probability, 1e-15);
}

TEST(TemperatureTest, FindsHowFarPredictionsAreTooSure) {
  testing::Random random(61);
  VoteTable t = {.items = 2000, .annotators = 10};
  Distributions given = {.probability = {}, .present = std::vector<std::uint8_t>(2000, 1)};
  for (int i = 0; i < 2000; ++i) {
    const double p = 0.05 + 0.9 * random.Uniform();
    for (int r = 0; r < 10; ++r) t.Add(i, r, random.Chance(p));
    given.probability.push_back(1 - p);
    given.probability.push_back(p);
  }
  const Votes votes = t.Create();
  EXPECT_EQ(BestTemperature(votes, given, here), 1);
  EXPECT_EQ(BestTemperature(votes, ScaleByTemperature(given, 2, 1 / 2.5), here), 2.5);
  EXPECT_EQ(BestTemperature(votes, ScaleByTemperature(given, 2, 1 / 0.35), here), 0.35);
  given.present.assign(2000, 0);
  EXPECT_EQ(BestTemperature(votes, given, here), 1);
  EXPECT_TRUE(std::isnan(CrossEntropyOfMeanVotes(votes, given, here)));
}

}  // namespace
}  // namespace softloss::annotation
