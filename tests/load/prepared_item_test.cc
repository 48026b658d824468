#include "client/load/prepared_item.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "kernels/engine.h"
#include "kernels/half.h"
#include "tests/testing/status_matchers.h"

namespace softloss::load {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;

ItemKind Kind(Loss loss, DType prediction, DType label, std::optional<DType> gradient) {
  ItemKind kind;
  kind.name = "item";
  kind.spec.loss = loss;
  kind.item.shape = {7, 5, 3};
  if (!IsElementwise(loss)) kind.item.class_axis = 1;
  kind.item.prediction = prediction;
  kind.item.label.dtype = label;
  if (IsInteger(label)) kind.item.label.kind = LabelKind::kClassId;
  kind.item.gradient = gradient;
  return kind;
}

// What a server that is right would answer: scored by the SIMD backend.
ScoreResult Answer(const ItemKind& kind, const PreparedItem& item) {
  const ScoreRequest request = item.Request();
  ScoreResult result;
  result.gradient = Buffer(item.reply_bytes());
  InlineExecutor here;
  const auto totals =
      ScoreItem(*MakeCpuBackend(), here, kind.spec, kind.item,
                {.prediction = request.prediction, .label = request.label},
                {.gradient = kind.item.gradient ? result.gradient.data() : nullptr});
  EXPECT_THAT(totals.status(), IsOk());
  result.loss = totals->loss;
  return result;
}

TEST(PreparedItemTest, RightAnswersPassAndWrongOnesDoNot) {
  for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy, Loss::kBrier}) {
    for (const DType prediction : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
      for (const DType label : {DType::kF32, DType::kBF16, DType::kU8, DType::kI32}) {
        if (IsElementwise(loss) && IsInteger(label)) continue;
        for (const DType gradient : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
          const ItemKind kind = Kind(loss, prediction, label, gradient);
          const auto item = PreparedItem::Create(kind, 3);
          ASSERT_THAT(item.status(), IsOk());
          EXPECT_EQ((*item)->reply_bytes(), 105 * SizeOf(gradient));
          ScoreResult result = Answer(kind, **item);
          EXPECT_THAT((*item)->Check(result, true), IsOk()) << Name(loss) << Name(gradient);
          // A bit of the exponent of one value.
          auto* const bytes = static_cast<std::uint8_t*>(result.gradient.data());
          bytes[51 * SizeOf(gradient) - 1] ^= 0x08;
          EXPECT_THAT(std::string((*item)->Check(result, true).message()),
                      HasSubstr("item: gradient[50]: must be"));
          EXPECT_THAT((*item)->Check(result, false), IsOk());
          result.loss *= 1.001;
          EXPECT_THAT(std::string((*item)->Check(result, false).message()),
                      HasSubstr("item: loss: must be"));
        }
      }
    }
  }
}

TEST(PreparedItemTest, NothingAndNanAreWrong) {
  const ItemKind kind = Kind(Loss::kSoftmaxCrossEntropy, DType::kF32, DType::kF32, DType::kF32);
  const auto item = PreparedItem::Create(kind, 3);
  ScoreResult result = Answer(kind, **item);
  result.loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE((*item)->Check(result, false).ok());
  result = Answer(kind, **item);
  result.gradient = Buffer();
  EXPECT_THAT(std::string((*item)->Check(result, true).message()),
              HasSubstr("must have 420 bytes; has 0"));
}

TEST(PreparedItemTest, ASeedIsAnItem) {
  const ItemKind kind = Kind(Loss::kSoftmaxCrossEntropy, DType::kF32, DType::kF32, std::nullopt);
  const auto a = PreparedItem::Create(kind, 3), b = PreparedItem::Create(kind, 3),
             c = PreparedItem::Create(kind, 4);
  EXPECT_EQ(std::memcmp((*a)->Request().prediction, (*b)->Request().prediction, 420), 0);
  EXPECT_NE(std::memcmp((*a)->Request().prediction, (*c)->Request().prediction, 420), 0);
  EXPECT_EQ((*a)->request_bytes(), 840);
  EXPECT_EQ((*a)->reply_bytes(), 0);
}

TEST(PreparedItemTest, WhatCannotBeScoredIsSaid) {
  ItemKind kind = Kind(Loss::kSoftmaxCrossEntropy, DType::kF32, DType::kF32, std::nullopt);
  kind.item.class_axis.reset();
  EXPECT_FALSE(PreparedItem::Create(kind, 1).ok());
  kind.item.class_axis = 1;
  kind.item.has_mask = true;
  EXPECT_THAT(std::string(PreparedItem::Create(kind, 1).status().message()),
              HasSubstr("masks and row weights are not drawn"));
}

}  // namespace
}  // namespace softloss::load
