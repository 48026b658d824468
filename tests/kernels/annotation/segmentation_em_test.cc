#include "kernels/annotation/segmentation_em.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/testing/random.h"
#include "tests/testing/status_matchers.h"

namespace softloss::annotation {
namespace {

using ::softloss::testing::Random;
using ::softloss::testing::StatusIs;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Rows of text, a reader each: '#' is marked.
struct Masks {
  std::vector<std::uint8_t> data;  // [pixels, readers]
  int readers;

  Masks(std::initializer_list<std::string> rows) : readers(static_cast<int>(rows.size())) {
    for (std::size_t x = 0; x < rows.begin()->size(); ++x) {
      for (const std::string& row : rows) data.push_back(row[x] == '#');
    }
  }
  ReaderMasks view() const { return {.value = data, .readers = readers}; }
};

std::string Text(const std::vector<std::uint8_t>& mask) {
  std::string text;
  for (const std::uint8_t x : mask) text += x ? '#' : '.';
  return text;
}

// The images of crowd-kit's tests, 3 rows of 8 pixels.
const Masks kFirst = {"...#....################", "........################",
                      "............##......##.."};
const Masks kSecond = {"...............#########", "######################..",
                       "........#####...#######."};

TEST(SegmentationEmTest, IsCrowdKitsOnItsExamples) {
  const auto first = FitSegmentationEm(kFirst.view(), {}),
             second = FitSegmentationEm(kSecond.view(), {});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(Text(first->mask), "........################");
  EXPECT_EQ(Text(second->mask), "........#####...#######.");
}

// crowd-kit's algorithm, pixel by pixel.
struct PlainEm {
  std::vector<double> posterior, accuracy;
  int iterations = 0;

  PlainEm(const std::vector<std::vector<int>>& masks, int max_iterations, double tolerance) {
    const std::size_t readers = masks.size(), pixels = masks[0].size();
    std::vector<double> prior(pixels);
    double region = 0;
    for (std::size_t x = 0; x < pixels; ++x) {
      for (const auto& mask : masks) prior[x] += mask[x];
      region += prior[x] > 0;
      prior[x] /= static_cast<double>(readers);
      posterior.push_back(prior[x] > 0.5);
    }
    const auto maximize = [&] {
      accuracy.assign(readers, 1.0);
      for (std::size_t r = 0; r < readers; ++r) {
        for (std::size_t x = 0; x < pixels; ++x) {
          accuracy[r] -= std::abs(masks[r][x] - posterior[x]) / region;
        }
      }
    };
    const auto finite = [](double x) { return std::isnan(x) ? 0 : x; };
    maximize();
    double last = -std::numeric_limits<double>::infinity();
    while (iterations < max_iterations) {
      for (std::size_t x = 0; x < pixels; ++x) {
        double in = prior[x], out = 1 - prior[x];
        for (std::size_t r = 0; r < readers; ++r) {
          in *= masks[r][x] ? accuracy[r] : 1 - accuracy[r];
          out *= masks[r][x] ? 1 - accuracy[r] : accuracy[r];
        }
        posterior[x] = finite(in / (in + out));
        if (posterior[x] < 1e-15) posterior[x] = 0;
      }
      maximize();
      double bound = 0;
      for (std::size_t x = 0; x < pixels; ++x) {
        bound -= finite(std::log(posterior[x]) * posterior[x]);
        for (std::size_t r = 0; r < readers; ++r) {
          const double a = masks[r][x] ? accuracy[r] : 1 - accuracy[r];
          bound += finite((std::log(a) + std::log(prior[x])) * posterior[x]) +
                   finite((std::log(1 - a) + std::log(1 - prior[x])) * (1 - posterior[x]));
        }
      }
      bound /= static_cast<double>(readers * pixels);
      prior = posterior;
      ++iterations;
      if (bound - last < tolerance) break;
      last = bound;
    }
  }
};

TEST(SegmentationEmTest, EqualsItsFormulas) {
  Random random(51);
  for (int trial = 0; trial < 30; ++trial) {
    const int readers = static_cast<int>(random.Int(3, 8)), pixels = 400;
    std::vector<std::vector<int>> masks(readers, std::vector<int>(pixels));
    std::vector<std::uint8_t> values;
    for (int x = 0; x < pixels; ++x) {
      for (int r = 0; r < readers; ++r) {
        masks[r][x] = random.Chance(0.7 + 0.04 * r) ? x % 20 < 8 : random.Chance(0.3);
        values.push_back(static_cast<std::uint8_t>(masks[r][x]));
      }
    }
    const SegmentationEmOptions options = {.max_iterations = 1 + trial % 10};
    const PlainEm expected(masks, options.max_iterations, options.tolerance);
    const auto fit = FitSegmentationEm({.value = values, .readers = readers}, options);
    ASSERT_TRUE(fit.ok()) << fit.status();
    EXPECT_EQ(fit->iterations, expected.iterations);
    for (int x = 0; x < pixels; ++x) EXPECT_NEAR(fit->posterior[x], expected.posterior[x], 1e-6);
    for (int r = 0; r < readers; ++r) EXPECT_NEAR(fit->accuracy[r], expected.accuracy[r], 1e-10);
  }
}

TEST(MeanMaskTest, IsASoftLabel) {
  const std::vector<std::uint8_t> binary = {0, 1, 1, 1, 1, 1}, soft = {255, 0, 51, 102};
  EXPECT_THAT(*MeanMask({.value = binary, .readers = 3}), ElementsAre(2 / 3.f, 1));
  EXPECT_THAT(*MeanMask({.value = soft, .readers = 2, .scale = 255}), ElementsAre(0.5f, 0.3f));
}

TEST(SegmentationEmTest, FindsTheReaderWhoMarksAtRandom) {
  Random random(52);
  Masks masks = {std::string(4000, '.'), std::string(4000, '.'), std::string(4000, '.'),
                 std::string(4000, '.')};
  for (int x = 0; x < 4000; ++x) {
    for (int r = 0; r < 4; ++r) {
      masks.data[x * 4 + r] = r == 2 ? random.Chance(0.5) : (x % 10 < 4) == random.Chance(0.95);
    }
  }
  const auto fit = FitSegmentationEm(masks.view(), {});
  ASSERT_TRUE(fit.ok());
  for (const int r : {0, 1, 3}) EXPECT_GT(fit->accuracy[r], fit->accuracy[2] + 0.2);
}

TEST(SegmentationEmTest, EdgesAreDefined) {
  const Masks nothing = {"....", "...."};
  const auto none = FitSegmentationEm(nothing.view(), {});
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->iterations, 0);
  EXPECT_THAT(none->mask, Each(0));
  EXPECT_THAT(none->posterior, Each(0));
  EXPECT_TRUE(std::isnan(none->accuracy[0]));

  const Masks same = {"##..", "##.."};
  const auto all = FitSegmentationEm(same.view(), {});
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(Text(all->mask), "##..");
  EXPECT_THAT(all->accuracy, ElementsAre(1, 1));

  EXPECT_TRUE(FitSegmentationEm({.readers = 3}, {})->mask.empty());
  const auto invalid = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  const std::vector<std::uint8_t> values(130, 2);
  EXPECT_THAT(FitSegmentationEm({.value = values, .readers = 65, .scale = 2}, {}),
              invalid("scale: must be 1, of binary masks; was 2"));
  EXPECT_THAT(FitSegmentationEm({.value = values, .readers = 5}, {}),
              invalid("value[0, 0]: must be at most 1, the scale; was 2"));
  EXPECT_THAT(FitSegmentationEm({.readers = 65}, {}),
              invalid("readers: must be at most 64; were 65"));
  EXPECT_THAT(MeanMask({.readers = 0}), invalid("readers"));
}

}  // namespace
}  // namespace softloss::annotation
