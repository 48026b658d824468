#include "kernels/annotation/segmentation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/annotation/confident_learning.h"
#include "kernels/annotation/row_scores.h"
#include "kernels/annotation/segmentation_simd.h"
#include "tests/kernels/annotation/npz.h"
#include "tests/kernels/annotation/real_data.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using testing::JsonNumber;
using testing::JsonNumbers;
using testing::Random;
using testing::RandomRow;

template <typename P, typename Label>
struct Images {
  Images(Random& random, int classes, std::int64_t images, std::int64_t pixels)
      : classes(classes), images(images), pixels(pixels), p(images * classes * pixels) {
    for (std::int64_t image = 0; image < images; ++image) {
      for (std::int64_t x = 0; x < pixels; ++x) {
        const auto truth = random.Int(0, classes);
        std::vector<double> row = RandomRow(random, classes);
        for (double& v : row) v *= 0.5;
        row[truth] += 0.5;
        for (int k = 0; k < classes; ++k) {
          p[(image * classes + k) * pixels + x] = static_cast<P>(row[k]);
        }
        label.push_back(static_cast<Label>(random.Chance(0.8) ? truth : random.Int(0, classes)));
      }
    }
  }
  Segmentation<P, Label> View() const { return {classes, images, pixels, p, label}; }

  int classes;
  std::int64_t images, pixels;
  std::vector<P> p;
  std::vector<Label> label;
};

TEST(SoftMinTest, IsTheWeightedSumOfItsDefinition) {
  EXPECT_NEAR(SoftMin<double>({0.9, 0.5, 0.1}, 0.5),
              (0.9 * std::exp(0.2) + 0.5 * std::exp(1.0) + 0.1 * std::exp(1.8)) /
                  (std::exp(0.2) + std::exp(1.0) + std::exp(1.8)),
              1e-15);
  EXPECT_EQ(SoftMin<double>({0.25, 0.25}), 0.25);
  EXPECT_NEAR(SoftMin<double>({0.25, 0.75}, 1e6), 0.5, 1e-6);
  // A temperature so low that unshifted powers would overflow.
  EXPECT_EQ(SoftMin<double>({0.25, 0.75}, 1e-4), 0.25);
  EXPECT_NEAR(SoftMin<float>({0.5f, 0.25f}), SoftMin<double>({0.5, 0.25}), 1e-15);
  EXPECT_TRUE(std::isnan(SoftMin<double>({})));
}

template <typename P>
void CheckLikeliest() {
  Random random(1);
  for (const int classes : {2, 3, 20}) {
    for (const std::int64_t n : {1, 3, 4, 7, 8, 9, 16, 17, 100}) {
      std::vector<P> p(classes * (n + 5)), best(n), likeliest(n);
      for (P& v : p) v = static_cast<P>(random.Int(0, 4)) / 4;  // with equals
      FindLikeliest(p.data(), n + 5, classes, n, best.data(), likeliest.data());
      for (std::int64_t i = 0; i < n; ++i) {
        int expected = 0;
        for (int k = 1; k < classes; ++k) {
          if (p[k * (n + 5) + i] > p[expected * (n + 5) + i]) expected = k;
        }
        EXPECT_EQ(likeliest[i], expected);
        EXPECT_EQ(best[i], p[expected * (n + 5) + i]);
      }
    }
  }
}

TEST(FindLikeliestTest, IsTheFirstOfTheLargest) {
  CheckLikeliest<float>();
  CheckLikeliest<double>();
}

// Against all pixels as items of confident learning, whose rows this one never makes.
template <typename P, typename Label>
void CheckAgainstRows() {
  Random random(2);
  const Images<P, Label> images(random, 4, 3, 5000);
  std::vector<P> score(15'000);
  std::vector<std::uint8_t> issue(15'000);
  InlineExecutor executor;
  const auto scores = ScoreSegmentation(images.View(), kSoftMinTemperature, absl::MakeSpan(score),
                                        absl::MakeSpan(issue), executor);
  ASSERT_TRUE(scores.ok()) << scores.status();
  std::vector<double> rows(4 * 15'000);
  std::vector<std::int32_t> label(images.label.begin(), images.label.end());
  ConfidentThresholds thresholds(4);
  for (std::size_t i = 0; i < label.size(); ++i) {
    for (std::size_t k = 0; k < 4; ++k) {
      rows[i * 4 + k] = images.p[(i / 5000 * 4 + k) * 5000 + i % 5000];
    }
    thresholds.Add(label[i], absl::MakeConstSpan(rows).subspan(i * 4, 4));
    EXPECT_EQ(score[i], rows[i * 4 + label[i]]);
  }
  EXPECT_EQ(scores->thresholds, thresholds.Finish());
  // Suspects one by one, and the lowest scores of so many.
  std::vector<std::size_t> order(label.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });
  std::size_t suspects = 0;
  for (std::size_t i = 0; i < label.size(); ++i) {
    const Row row = absl::MakeConstSpan(rows).subspan(i * 4, 4);
    const std::int32_t likeliest = ArgMax(row);
    suspects += likeliest != label[i] && row[likeliest] >= scores->thresholds[likeliest] - 1e-6;
  }
  std::vector<std::uint8_t> expected(label.size());
  for (std::size_t j = 0; j < suspects; ++j) {
    const std::size_t i = order[j];
    expected[i] = ArgMax(absl::MakeConstSpan(rows).subspan(i * 4, 4)) != label[i];
  }
  EXPECT_EQ(issue, expected);
  EXPECT_GT(scores->issues, 500);
  std::int64_t issues = 0;
  double mean = 0;
  for (std::int64_t image = 0; image < 3; ++image) {
    const auto own = absl::MakeConstSpan(score).subspan(image * 5000, 5000);
    EXPECT_EQ(scores->image_score[image], SoftMin(own));
    EXPECT_NEAR(scores->image_mean[image], std::accumulate(own.begin(), own.end(), 0.0) / 5000,
                1e-12);
    issues += scores->image_issues[image];
    mean += scores->image_mean[image] / 3;
  }
  EXPECT_EQ(issues, scores->issues);
  EXPECT_EQ(issues, std::count(issue.begin(), issue.end(), 1));
  EXPECT_NEAR(scores->mean, mean, 1e-12);
}

TEST(SegmentationTest, IsConfidentLearningOverPixels) {
  CheckAgainstRows<float, std::uint8_t>();
  CheckAgainstRows<float, std::int32_t>();
  CheckAgainstRows<double, std::uint8_t>();
  CheckAgainstRows<double, std::int32_t>();
}

TEST(SegmentationTest, ThreadsAndMissingOutputsChangeNothing) {
  Random random(3);
  const Images<float, std::uint8_t> images(random, 5, 9, 3000);
  InlineExecutor one;
  testing::ThreadExecutor four(4);
  const auto a = ScoreSegmentation(images.View(), 0.1, {}, {}, one);
  std::vector<float> score(27'000);
  std::vector<std::uint8_t> issue(27'000);
  const auto b =
      ScoreSegmentation(images.View(), 0.1, absl::MakeSpan(score), absl::MakeSpan(issue), four);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->image_score, b->image_score);
  EXPECT_EQ(a->image_issues, b->image_issues);
  EXPECT_EQ(a->thresholds, b->thresholds);
  EXPECT_EQ(a->mean, b->mean);
  EXPECT_EQ(b->issues, std::count(issue.begin(), issue.end(), 1));
}

TEST(SegmentationTest, WithoutDoubtsNothingIsAnIssue) {
  const std::vector<float> p = {1, 1, 0, 0};
  const std::vector<std::uint8_t> label = {0, 0};
  InlineExecutor executor;
  std::vector<std::uint8_t> issue = {7, 7};
  const auto scores = ScoreSegmentation<float, std::uint8_t>({2, 1, 2, p, label}, 0.1, {},
                                                             absl::MakeSpan(issue), executor);
  ASSERT_TRUE(scores.ok());
  EXPECT_EQ(scores->issues, 0);
  EXPECT_EQ(issue, (std::vector<std::uint8_t>{0, 0}));
  EXPECT_EQ(scores->image_score[0], 1);
  EXPECT_EQ(scores->thresholds[1], ConfidentThresholds::kOfNoLabels);
  const auto none =
      ScoreSegmentation<float, std::uint8_t>({2, 0, 2, {}, {}}, 0.1, {}, {}, executor);
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(std::isnan(none->mean));
}

TEST(SegmentationTest, BadInputIsNamed) {
  const std::vector<float> good = {1, 1, 0, 0};
  const auto error = [&](int classes, std::int64_t images, std::int64_t pixels,
                         std::vector<float> p, std::vector<std::int32_t> label, double temperature,
                         std::vector<float> score) {
    InlineExecutor executor;
    return std::string(ScoreSegmentation<float, std::int32_t>({classes, images, pixels, p, label},
                                                              temperature, absl::MakeSpan(score),
                                                              {}, executor)
                           .status()
                           .message());
  };
  EXPECT_EQ(error(2, 1, 2, good, {0, 1}, 0.1, {}), "");
  EXPECT_EQ(error(1, 1, 2, good, {0, 1}, 0.1, {}), "num_classes: must be from 2 to 65536; was 1");
  EXPECT_EQ(error(2, 1, 0, good, {0, 1}, 0.1, {}),
            "images, pixels: must be at least 0 and 1; were 1 and 0");
  EXPECT_EQ(error(2, 1, 2, good, {0}, 0.1, {}), "label: must have 2 values; has 1");
  EXPECT_EQ(error(2, 1, 2, {1}, {0, 1}, 0.1, {}), "probabilities: must have 4 values; has 1");
  EXPECT_EQ(error(2, 1, 2, good, {0, 1}, 0, {}), "temperature: must be positive; was 0");
  EXPECT_EQ(error(2, 1, 2, good, {0, 1}, 0.1, {1}), "pixel_score: must have 2 values; has 1");
  EXPECT_EQ(error(2, 1, 2, good, {0, 2}, 0.1, {}), "label[0, 1]: must be from 0 to 1; was 2");
  EXPECT_EQ(error(2, 1, 2, good, {0, -1}, 0.1, {}), "label[0, 1]: must be from 0 to 1; was -1");
  for (const auto& [value, name] : {std::pair<float, std::string>{1.5f, "1.5"}, {0.0f, "0"}}) {
    EXPECT_EQ(error(2, 1, 2, {1, value, 0, 0}, {0, 1}, 0.1, {}),
              "probabilities[0, :, 1]: must be in [0, 1] and sum to 1; the largest was " + name);
  }
  EXPECT_THAT(error(2, 1, 2, {1, std::numeric_limits<float>::quiet_NaN(), 0, 0}, {0, 1}, 0.1, {}),
              ::testing::HasSubstr("the largest was nan"));
}

// Each reader's masks against the mean of the other three, as cleanlab scores them.
TEST(SegmentationDataTest, ReadersAgainstTheOthers) {
  const auto folder = testing::DataSet("lidc-readers");
  if (folder.empty()) GTEST_SKIP() << "no data set lidc-readers; set SOFTLOSS_DATA";
  const auto packed = testing::ReadNpzBytes(folder / "masks.npz", "masks");
  constexpr std::int64_t kImages = 200, kPixels = 4096;
  const auto mask = [&packed](std::int64_t image, int reader, std::int64_t x) {
    return packed[(image * 4 + reader) * 512 + x / 8] >> (7 - x % 8) & 1;
  };
  testing::ThreadExecutor executor(2);
  for (int r = 0; r < 4; ++r) {
    std::vector<double> p(kImages * 2 * kPixels);
    std::vector<std::uint8_t> label(kImages * kPixels);
    for (std::int64_t image = 0; image < kImages; ++image) {
      for (std::int64_t x = 0; x < kPixels; ++x) {
        int others = 0;
        for (int s = 0; s < 4; ++s) others += s == r ? 0 : mask(image, s, x);
        const double p1 = 0.02 + 0.96 * (others / 3.0);
        p[image * 2 * kPixels + x] = 1 - p1;
        p[(image * 2 + 1) * kPixels + x] = p1;
        label[image * kPixels + x] = static_cast<std::uint8_t>(mask(image, r, x));
      }
    }
    const auto scores = ScoreSegmentation<double, std::uint8_t>(
        {2, kImages, kPixels, p, label}, kSoftMinTemperature, {}, {}, executor);
    ASSERT_TRUE(scores.ok());
    const std::string reader = "reader" + std::to_string(r);
    const auto expected = folder / "expected.json";
    EXPECT_NEAR(scores->mean, JsonNumber(expected, {"pixel", reader, "pixel_mean"}), 1e-12);
    EXPECT_EQ(static_cast<double>(scores->issues),
              JsonNumber(expected, {"pixel", reader, "issue_pixels"}));
    const auto softmin = JsonNumbers(expected, {"pixel", reader, "softmin_T0.1"});
    ASSERT_EQ(softmin.size(), scores->image_score.size());
    for (std::size_t i = 0; i < softmin.size(); ++i) {
      EXPECT_NEAR(scores->image_score[i], softmin[i], 1e-12);
    }
  }
}

}  // namespace
}  // namespace softloss::annotation
