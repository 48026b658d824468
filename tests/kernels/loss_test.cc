#include "kernels/loss.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

LossSpec Softmax() {
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  return spec;
}

TEST(LossTest, EveryNameParsesToItself) {
  for (Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
    EXPECT_EQ(ParseLoss(Name(loss)), loss);
  }
  EXPECT_EQ(Name(Loss::kSigmoidCrossEntropy), "sigmoid_cross_entropy");
  EXPECT_EQ(Name(Loss::kSoftmaxCrossEntropy), "softmax_cross_entropy");
  EXPECT_EQ(ParseLoss("softmax"), std::nullopt);
  EXPECT_EQ(ParseLoss(""), std::nullopt);
}

TEST(ValidateTest, DefaultsAreValid) {
  EXPECT_THAT(Validate(LossSpec()), IsOk());
  EXPECT_THAT(Validate(Softmax()), IsOk());
}

TEST(ValidateTest, RefusesNumbersThatAreNoEnumerator) {
  LossSpec spec;
  spec.loss = static_cast<Loss>(0);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, AllOf(HasSubstr("loss:"), HasSubstr("was 0"))));
  spec.loss = static_cast<Loss>(200);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("was 200")));
  spec = LossSpec();
  spec.reduction = static_cast<Reduction>(4);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("reduction")));
  spec = LossSpec();
  spec.normalizer = static_cast<Normalizer>(6);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("normalizer")));
  spec = LossSpec();
  spec.label_check = static_cast<LabelCheck>(0);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("label_check")));
}

TEST(ValidateTest, SmoothingIsInHalfOpenUnitInterval) {
  LossSpec spec;
  for (float good : {0.0f, 0.1f, 0.999999f}) {
    spec.label_smoothing = good;
    EXPECT_THAT(Validate(spec), IsOk()) << good;
  }
  for (float bad : {1.0f, -0.1f, std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    spec.label_smoothing = bad;
    EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("label_smoothing"))) << bad;
  }
}

TEST(ValidateTest, WeightsAreFiniteAndNotNegative) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float bad : {-1.0f, inf, nan}) {
    LossSpec spec = Softmax();
    spec.class_weight = {1, bad};
    EXPECT_THAT(Validate(spec),
                StatusIs(kInvalid, AllOf(HasSubstr("class_weight"), HasSubstr("value 1"))));
    spec = LossSpec();
    spec.pos_weight = {bad};
    EXPECT_THAT(Validate(spec),
                StatusIs(kInvalid, AllOf(HasSubstr("pos_weight"), HasSubstr("value 0"))));
  }
  LossSpec spec;
  spec.class_weight = {0, 2};
  spec.pos_weight = {0};
  EXPECT_THAT(Validate(spec), IsOk());
}

TEST(ValidateTest, RefusesOptionsOfOtherLosses) {
  LossSpec spec = Softmax();
  spec.pos_weight = {1};
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, AllOf(HasSubstr("pos_weight"),
                                                       HasSubstr("softmax_cross_entropy"))));
  spec = LossSpec();
  spec.label_check = LabelCheck::kRenormalize;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, AllOf(HasSubstr("label_check"),
                                                       HasSubstr("sigmoid_cross_entropy"))));
  spec = Softmax();
  spec.label_check = LabelCheck::kRenormalize;
  EXPECT_THAT(Validate(spec), IsOk());
}

}  // namespace
}  // namespace softloss
