#include "kernels/annotation/pixels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/annotation/agreement.h"
#include "kernels/annotation/overlap.h"
#include "kernels/annotation/pixels_simd.h"
#include "tests/kernels/annotation/npz.h"
#include "tests/kernels/annotation/real_data.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using testing::JsonNumbers;
using testing::Random;
using testing::RandomMasks;
using testing::VoteTable;

// Numbers of pixels about the width of vectors, blocks and tasks; numbers of readers that have vector
// kernels, and others. All values the largest is the case that would overflow first.
TEST(PixelSumsTest, AreTheSumsWhateverTheSize) {
  Random random(1);
  InlineExecutor executor;
  for (const int readers : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 64}) {
    for (const std::int64_t pixels : {0, 1, 7, 31, 32, 33, 100, 2047, 20'000}) {
      for (const bool largest : {false, true}) {
        std::vector<std::uint8_t> value(pixels * readers + 1);
        for (std::uint8_t& v : value) v = largest ? 255 : static_cast<std::uint8_t>(random.Bits());
        PixelSums expected;
        expected.pixels = pixels;
        for (std::int64_t i = 0; i < pixels; ++i) {
          std::int64_t sum = 0;
          for (int r = 0; r < readers; ++r) {
            const std::int64_t p = value[1 + i * readers + r];
            sum += p;
            expected.squares += p * p;
          }
          expected.sum += sum;
          expected.pixel_squares += sum * sum;
        }
        // From an odd address on.
        const ReaderMasks masks{absl::MakeConstSpan(value).subspan(1), readers, 255};
        EXPECT_EQ(SumPixels(masks, executor), expected) << readers << " readers, " << pixels;
      }
    }
  }
}

TEST(PixelSumsTest, ThreadsAndShardsChangeNothing) {
  Random random(2);
  const std::vector<std::uint8_t> value = RandomMasks(random, 200'000, 4, 255);
  InlineExecutor one;
  testing::ThreadExecutor four(4);
  const PixelSums whole = SumPixels({value, 4, 255}, one);
  EXPECT_EQ(SumPixels({value, 4, 255}, four), whole);
  const auto all = absl::MakeConstSpan(value);
  PixelSums merged = SumPixels({all.subspan(4 * 70'001), 4, 255}, one);
  merged += SumPixels({all.subspan(0, 4 * 70'001), 4, 255}, one);
  EXPECT_EQ(merged, whole);
  EXPECT_EQ(SumOverlaps({value, 4, 255}, four), SumOverlaps({value, 4, 255}, one));
}

TEST(PixelSumsTest, AlphaIsSoftAlphaOfVotes) {
  Random random(3);
  InlineExecutor executor;
  for (const int readers : {2, 3, 5}) {
    for (const int scale : {1, 255}) {
      const std::vector<std::uint8_t> value = RandomMasks(random, 300, readers, scale);
      VoteTable table;
      for (std::size_t v = 0; v < value.size(); ++v) {
        const double p = static_cast<double>(value[v]) / scale;
        table.Add(static_cast<std::int64_t>(v) / readers, static_cast<std::int32_t>(v % readers),
                  {p, 1 - p});
      }
      const Votes votes = table.Create();
      AgreementSums sums(2);
      for (std::int64_t i = 0; i < votes.num_items(); ++i) sums.AddItem(votes, i);
      EXPECT_NEAR(SumPixels({value, readers, scale}, executor).Alpha(readers),
                  sums.Finish().alpha_soft, 1e-12);
    }
  }
}

TEST(PixelSumsTest, EdgesOfAlpha) {
  InlineExecutor executor;
  const auto alpha = [&](std::vector<std::uint8_t> value, int readers) {
    return SumPixels({value, readers, 1}, executor).Alpha(readers);
  };
  EXPECT_EQ(alpha({1, 1, 0, 0}, 2), 1);
  EXPECT_TRUE(std::isnan(alpha({0, 0, 0, 0}, 2)));
  EXPECT_TRUE(std::isnan(alpha({0, 1, 0}, 1)));
  EXPECT_TRUE(std::isnan(alpha({}, 2)));
}

TEST(ReaderOverlapTest, IsTheOverlapOfEachTwo) {
  Random random(4);
  InlineExecutor executor;
  for (const int readers : {1, 2, 4, 5}) {
    const std::vector<std::uint8_t> value = RandomMasks(random, 1000, readers, 255);
    const ReaderOverlap found = SumOverlaps({value, readers, 255}, executor);
    for (int r = 0; r < readers; ++r) {
      for (int s = 0; s < readers; ++s) {
        Overlap expected;
        for (int i = 0; i < 1000; ++i) expected.Add(value[i * readers + r], value[i * readers + s]);
        EXPECT_EQ(found.Dice(r, s), expected.dice());
        EXPECT_EQ(found.Iou(r, s), expected.iou());
      }
    }
  }
  const ReaderOverlap empty = SumOverlaps({std::vector<std::uint8_t>(8), 2, 1}, executor);
  EXPECT_TRUE(std::isnan(empty.Dice(0, 1)));
}

TEST(MajorityMaskTest, AHalfIsEnough) {
  InlineExecutor executor;
  std::vector<std::uint8_t> out(3);
  EXPECT_EQ(MajorityMask({{1, 0, 0, 0, 1, 1}, 2, 1}, absl::MakeSpan(out), executor), 2);
  EXPECT_EQ(out, (std::vector<std::uint8_t>{1, 0, 1}));
  EXPECT_EQ(MajorityMask({{255, 0, 127, 255, 100, 27}, 2, 255}, absl::MakeSpan(out), executor), 2);
  EXPECT_EQ(out, (std::vector<std::uint8_t>{1, 1, 0}));
}

TEST(DisagreementMapTest, IsInBits) {
  InlineExecutor executor;
  std::vector<float> out(4);
  DisagreementMap({{1, 0, 1, 1, 0, 0, 1, 0}, 2, 1}, absl::MakeSpan(out), executor);
  EXPECT_EQ(out, (std::vector<float>{1, 0, 0, 1}));
  // Two that are both unsure do not disagree; p̄ = 0.5 of 0.2 and 0.8 is H = 1 less their own.
  out.resize(2);
  DisagreementMap({{5, 5, 2, 8}, 2, 10}, absl::MakeSpan(out), executor);
  EXPECT_EQ(out[0], 0);
  EXPECT_FLOAT_EQ(out[1], static_cast<float>(1 + 0.2 * std::log2(0.2) + 0.8 * std::log2(0.8)));
}

TEST(ReaderMasksTest, BadInputIsNamed) {
  const auto error = [](std::vector<std::uint8_t> value, int readers, int scale) {
    return std::string(Validate(ReaderMasks{value, readers, scale}).message());
  };
  EXPECT_EQ(error({}, 2, 1), "");
  EXPECT_EQ(error({1, 0, 0, 1}, 2, 1), "");
  EXPECT_EQ(error({1, 255}, 2, 255), "");
  EXPECT_EQ(error({}, 0, 1), "readers: must be from 1 to 1024; was 0");
  EXPECT_EQ(error({}, 1025, 1), "readers: must be from 1 to 1024; was 1025");
  EXPECT_EQ(error({}, 2, 0), "scale: must be from 1 to 255; was 0");
  EXPECT_EQ(error({1, 0, 1}, 2, 1), "value: must have 2 values a pixel; has 3");
  EXPECT_EQ(error({1, 0, 1, 2}, 2, 1), "value[1, 1]: must be at most 1, the scale; was 2");
}

// The masks of four readers of 6,457 slices of 64 × 64 pixels.
class LidcMasksTest : public ::testing::Test {
 protected:
  static constexpr int kReaders = 4, kPixels = 4096;
  void SetUp() override {
    const auto folder = testing::DataSet("lidc-readers");
    if (folder.empty()) GTEST_SKIP() << "no data set lidc-readers; set SOFTLOSS_DATA";
    expected_ = folder / "expected.json";
    const std::vector<std::uint8_t> packed = testing::ReadNpzBytes(folder / "masks.npz", "masks");
    slices_ = static_cast<std::int64_t>(packed.size()) / (kReaders * kPixels / 8);
    ASSERT_EQ(slices_, 6457);
    value_.resize(packed.size() * 8);
    for (std::size_t at = 0; at < packed.size(); ++at) {
      const std::size_t slice = at / 2048, reader = at / 512 % 4, first = at % 512 * 8;
      for (std::size_t bit = 0; bit < 8; ++bit) {
        value_[(slice * kPixels + first + bit) * kReaders + reader] = packed[at] >> (7 - bit) & 1;
      }
    }
  }
  ReaderMasks Slices(std::int64_t begin, std::int64_t end) const {
    constexpr std::int64_t kSize = kReaders * kPixels;
    return {absl::MakeConstSpan(value_).subspan(begin * kSize, (end - begin) * kSize), kReaders, 1};
  }

  std::filesystem::path expected_;
  std::int64_t slices_ = 0;
  std::vector<std::uint8_t> value_;
};

TEST_F(LidcMasksTest, AlphaAndSums) {
  testing::ThreadExecutor executor(2);
  const ReaderMasks all = Slices(0, slices_);
  EXPECT_TRUE(Validate(all).ok());
  const PixelSums sums = SumPixels(all, executor);
  EXPECT_NEAR(sums.Alpha(kReaders), 0.814734, 5e-7);
  const auto totals = JsonNumbers(expected_, {"pixel", "total_pixels_per_reader"});
  EXPECT_EQ(static_cast<double>(sums.sum), std::accumulate(totals.begin(), totals.end(), 0.0));
  // The number of pixels that n of the readers marked gives the sum of squares.
  double squares = 0;
  for (int n = 1; n <= 4; ++n) {
    squares += n * n *
               testing::JsonNumber(expected_,
                                   {"pixel", "pixel_soft_histogram_all_slices", std::to_string(n)});
  }
  EXPECT_EQ(static_cast<double>(sums.pixel_squares), squares);
  const ReaderOverlap overlap = SumOverlaps(all, executor);
  for (int r = 0; r < kReaders; ++r) EXPECT_EQ(static_cast<double>(overlap.sum[r]), totals[r]);
}

TEST_F(LidcMasksTest, MajorityAndOverlapsOfSlices) {
  InlineExecutor executor;
  const auto majority = JsonNumbers(expected_, {"pixel", "mv_consensus_pixels"});
  const auto common = JsonNumbers(expected_, {"pixel", "pairwise_intersection_first20"});
  ASSERT_EQ(majority.size(), 200u);
  ASSERT_EQ(common.size(), 20u * 16u);
  std::vector<std::uint8_t> out(kPixels);
  for (std::int64_t slice = 0; slice < 200; ++slice) {
    const ReaderMasks masks = Slices(slice, slice + 1);
    EXPECT_EQ(static_cast<double>(MajorityMask(masks, absl::MakeSpan(out), executor)),
              majority[slice]);
    if (slice >= 20) continue;
    const ReaderOverlap overlap = SumOverlaps(masks, executor);
    for (int r = 0; r < kReaders; ++r) {
      for (int s = 0; s < kReaders; ++s) {
        const double both = common[slice * 16 + r * 4 + s];
        const auto sum = static_cast<double>(overlap.sum[r] + overlap.sum[s]);
        if (sum == 0) {
          EXPECT_TRUE(std::isnan(overlap.Dice(r, s)));
        } else {
          EXPECT_DOUBLE_EQ(overlap.Dice(r, s), 2 * both / sum);
          EXPECT_DOUBLE_EQ(overlap.Iou(r, s), both / (sum - both));
        }
      }
    }
  }
}

}  // namespace
}  // namespace softloss::annotation
