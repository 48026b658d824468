#include "kernels/annotation/mask_issues.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/annotation/segmentation.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using testing::Random;

struct Masks {
  std::vector<std::int64_t> begin = {0};
  std::vector<std::uint8_t> label;
  std::vector<float> mean, model;

  ModelMasks view() const { return {begin, label, mean, model}; }
};

// Images of `sizes` pixels with a model that is mostly right, and labels of which some are turned over.
Masks Planted(const std::vector<std::int64_t>& sizes, std::vector<std::int64_t>& planted) {
  Random random(4);
  Masks out;
  for (const std::int64_t size : sizes) {
    for (std::int64_t i = 0; i < size; ++i) {
      const bool object = random.Chance(0.4);
      const float sure = 0.9F + 0.09F * static_cast<float>(random.Uniform());
      out.model.push_back(object ? sure : 1 - sure);
      const bool wrong = random.Chance(0.02);
      if (wrong) planted.push_back(static_cast<std::int64_t>(out.label.size()));
      out.label.push_back(object != wrong ? 1 : 0);
      out.mean.push_back(out.label.back());
    }
    out.begin.push_back(static_cast<std::int64_t>(out.label.size()));
  }
  return out;
}

TEST(MaskIssuesTest, FindsWhatWasPlantedInImagesOfAnySize) {
  std::vector<std::int64_t> planted;
  const Masks masks = Planted({900, 100, 2500}, planted);
  InlineExecutor executor;
  const auto found = FindMaskIssues(masks.view(), kSoftMinTemperature, executor);
  ASSERT_TRUE(found.ok()) << found.status();
  // By definition, over the pixels of all images: as many as the model is surer of the other class than
  // it is of that class's own pixels on average, those of the lowest scores.
  double sum[2] = {}, count[2] = {};
  for (std::size_t i = 0; i < masks.label.size(); ++i) {
    sum[masks.label[i]] += masks.label[i] ? masks.model[i] : 1 - masks.model[i];
    ++count[masks.label[i]];
  }
  const auto doubt = [&](std::int64_t i) {
    return masks.label[i] ? 1 - masks.model[i] : masks.model[i];
  };
  std::size_t confident = 0;
  for (const std::int64_t i : planted) {
    const int other = 1 - masks.label[i];
    confident += doubt(i) >= sum[other] / count[other];
  }
  ASSERT_GT(confident, planted.size() / 2);
  std::vector<std::int64_t> expected = planted;
  std::stable_sort(expected.begin(), expected.end(),
                   [&](std::int64_t a, std::int64_t b) { return doubt(a) > doubt(b); });
  expected.resize(confident);
  std::sort(expected.begin(), expected.end());
  std::vector<std::int64_t> issues;
  for (std::size_t i = 0; i < found->issue.size(); ++i) {
    if (found->issue[i]) issues.push_back(static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(issues, expected);
  for (int image = 0; image < 3; ++image) {
    const auto in = [&](std::int64_t at) {
      return at >= masks.begin[image] && at < masks.begin[image + 1];
    };
    EXPECT_EQ(found->image_issues[image], std::count_if(expected.begin(), expected.end(), in));
    // Of P(label), by definition.
    std::vector<float> score;
    Overlap overlap;
    for (std::int64_t i = masks.begin[image]; i < masks.begin[image + 1]; ++i) {
      score.push_back(masks.label[i] ? masks.model[i] : 1 - masks.model[i]);
      overlap.Add(masks.mean[i], masks.model[i]);
    }
    EXPECT_DOUBLE_EQ(found->image_score[image], SoftMin<float>(score));
    EXPECT_EQ(found->overlap[image], overlap);
  }
  testing::ThreadExecutor threads(3);
  const auto again = FindMaskIssues(masks.view(), kSoftMinTemperature, threads);
  EXPECT_EQ(again->issue, found->issue);
  EXPECT_EQ(again->image_score, found->image_score);
}

TEST(MaskIssuesTest, BadInputIsNamed) {
  InlineExecutor executor;
  const auto error = [&](const Masks& masks, double temperature = kSoftMinTemperature) {
    return std::string(FindMaskIssues(masks.view(), temperature, executor).status().message());
  };
  EXPECT_EQ(error({}), "");
  EXPECT_EQ(error({{0, 2}, {1}, {1}, {1}}), "begin: must go from 0 to 1, the number of pixels");
  EXPECT_EQ(error({{}, {1}, {1}, {1}}), "begin: must go from 0 to 1, the number of pixels");
  EXPECT_EQ(error({{0, 1, 1}, {1}, {1}, {1}}), "begin[2]: must be above 1; was 1");
  EXPECT_EQ(error({{0, 1}, {1}, {}, {1}}),
            "label and mean: must have 1 pixels, as the model; have 1 and 0");
  EXPECT_EQ(error({{0, 1}, {1}, {1}, {1.5F}}), "model[0]: must be from 0 to 1; was 1.5");
  EXPECT_NE(error({{0, 1}, {2}, {1}, {1}}), "");
  EXPECT_NE(error({{0, 1}, {1}, {1}, {1}}, 0), "");
}

}  // namespace
}  // namespace softloss::annotation
