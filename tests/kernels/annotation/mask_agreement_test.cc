#include "kernels/annotation/mask_agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/annotation/agreement.h"
#include "kernels/annotation/overlap.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

using testing::Random;
using testing::RandomMasks;
using testing::VoteTable;

// By definition, pixel by pixel.
TEST(MaskAgreementTest, ReadersAgainstTheMeanOfTheOthers) {
  Random random(1);
  InlineExecutor executor;
  for (const int readers : {2, 3, 4, 9}) {
    for (const int scale : {1, 255}) {
      const std::int64_t pixels = 1000;
      const std::vector<std::uint8_t> value = RandomMasks(random, pixels, readers, scale);
      const auto found = CompareReaders({value, readers, scale}, executor);
      ASSERT_TRUE(found.ok()) << found.status();
      std::int64_t touched = 0, contested = 0;
      for (std::int64_t i = 0; i < pixels; ++i) {
        bool any = false, differ = false;
        for (int r = 0; r < readers; ++r) {
          any = any || value[i * readers + r] > 0;
          differ = differ || value[i * readers + r] != value[i * readers];
        }
        touched += any;
        contested += differ;
      }
      EXPECT_EQ(found->touched, touched);
      EXPECT_EQ(found->contested, contested);
      for (int r = 0; r < readers; ++r) {
        Overlap expected;
        for (std::int64_t i = 0; i < pixels; ++i) {
          double others = 0;
          for (int s = 0; s < readers; ++s) others += s == r ? 0 : value[i * readers + s];
          expected.Add(value[i * readers + r], others / (readers - 1));
        }
        EXPECT_NEAR(found->DiceWithOthers(r), expected.dice(), 1e-12);
        EXPECT_NEAR(found->IouWithOthers(r), expected.iou(), 1e-12);
        if (readers == 2) {
          EXPECT_EQ(found->DiceWithOthers(r), found->overlap.Dice(0, 1));
        }
      }
    }
  }
}

TEST(MaskAgreementTest, ThreadsAndShardsChangeNothing) {
  Random random(2);
  InlineExecutor one;
  testing::ThreadExecutor four(4);
  const std::vector<std::uint8_t> value = RandomMasks(random, 150'000, 3, 255);
  const auto all = absl::MakeConstSpan(value);
  const auto whole = CompareReaders({all, 3, 255}, one);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(*CompareReaders({all, 3, 255}, four), *whole);
  auto merged = CompareReaders({all.subspan(3 * 70'001), 3, 255}, one);
  *merged += *CompareReaders({all.subspan(0, 3 * 70'001), 3, 255}, one);
  EXPECT_EQ(*merged, *whole);
}

TEST(MaskAgreementTest, WhereNothingIsToCompare) {
  InlineExecutor executor;
  const auto alone = CompareReaders({{1, 0, 1}, 1, 1}, executor);
  EXPECT_TRUE(std::isnan(alone->DiceWithOthers(0)));
  const auto empty = CompareReaders({std::vector<std::uint8_t>(6), 2, 1}, executor);
  EXPECT_TRUE(std::isnan(empty->DiceWithOthers(0)));
  EXPECT_TRUE(std::isnan(empty->IouWithOthers(1)));
  EXPECT_EQ(empty->touched, 0);
  EXPECT_EQ(CompareReaders({{2, 0}, 2, 1}, executor).status().message(),
            "value[0, 0]: must be at most 1, the scale; was 2");
}

TEST(ImagesAlphaTest, IsSoftAlphaOfVotesOfVaryingReaders) {
  Random random(3);
  InlineExecutor executor;
  VoteTable table;
  ImagesAlpha alpha;
  std::int64_t item = 0;
  for (const int readers : {3, 1, 2, 5}) {
    const std::vector<std::uint8_t> value = RandomMasks(random, 200, readers, 255);
    alpha.Add(SumPixels({value, readers, 255}, executor), readers);
    for (int i = 0; i < 200; ++i, ++item) {
      for (int r = 0; r < readers; ++r) {
        const double p = value[i * readers + r] / 255.0;
        table.Add(item, r, {p, 1 - p});
      }
    }
  }
  const Votes votes = table.Create();
  AgreementSums sums(2);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) sums.AddItem(votes, i);
  EXPECT_NEAR(alpha.value(), sums.Finish().alpha_soft, 1e-12);
  EXPECT_TRUE(std::isnan(ImagesAlpha().value()));
}

}  // namespace
}  // namespace softloss::annotation
