#include "kernels/loss.h"

#include <cmath>
#include <limits>
#include <string>

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
  EXPECT_EQ(AllLosses().size(), static_cast<std::size_t>(kLastLoss));
  for (Loss loss : AllLosses()) EXPECT_EQ(ParseLoss(Name(loss)), loss);
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
  spec.normalizer = static_cast<Normalizer>(7);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("normalizer")));
  spec.normalizer = Normalizer::kProfile;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("normalizer: must be given")));
  spec.profile = Profile::kCaffe;
  EXPECT_THAT(Validate(spec), IsOk());
  spec.profile = static_cast<Profile>(3);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("profile: must be in [0, 2]; was 3")));
  spec = LossSpec();
  spec.label_check = static_cast<LabelCheck>(0);
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("label_check")));
}

TEST(ValidateTest, ParametersHaveDefaultsAndBounds) {
  for (Loss loss : AllLosses()) {
    LossSpec spec;
    spec.loss = loss;
    EXPECT_THAT(Validate(spec), IsOk()) << Name(loss);
    for (const ParameterRule& rule : Parameters(loss)) {
      for (float good : {rule.low, rule.high, rule.fallback}) {
        spec.*rule.member = good;
        EXPECT_THAT(Validate(spec), IsOk()) << Name(loss) << " " << rule.name << " " << good;
      }
      for (float bad : {std::nextafter(rule.low, -2e9f), std::nextafter(rule.high, 2e9f),
                        std::numeric_limits<float>::quiet_NaN()}) {
        spec.*rule.member = bad;
        EXPECT_THAT(Validate(spec), StatusIs(kInvalid, AllOf(HasSubstr(rule.name),
                                                             HasSubstr(std::string(Name(loss))))))
            << bad;
      }
      spec.*rule.member = std::nullopt;
    }
  }
}

TEST(ValidateTest, ParametersOfOtherLossesAreRefused) {
  LossSpec spec = Softmax();
  spec.gamma = 2;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("gamma: does not apply to "
                                                           "softmax_cross_entropy; was 2")));
  spec = LossSpec();
  spec.temperature = 1;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("temperature: does not apply")));
}

TEST(ValidateTest, ProbabilitiesHaveNoTemperature) {
  LossSpec spec = Softmax();
  spec.prediction_kind = PredictionKind::kProbabilities;
  EXPECT_THAT(Validate(spec), IsOk());
  spec.temperature = 2;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("temperature: applies to logits only")));
  spec.temperature = std::nullopt;
  spec.z_loss = 0.1f;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("z_loss: applies to logits only")));
}

TEST(ValidateTest, AClassMaskLeavesAClass) {
  LossSpec spec = Softmax();
  spec.class_mask = {0, 1, 0};
  EXPECT_THAT(Validate(spec), IsOk());
  spec.class_mask = {0, 0, 0};
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("class_mask: must leave a class")));
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

TEST(ValidateTest, OptionsOfRegionsAreOfRegionalLosses) {
  LossSpec spec = Softmax();
  spec.activation = Activation::kSigmoid;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("activation: does not apply to "
                                                           "softmax_cross_entropy; was 1")));
  spec = Softmax();
  spec.batch = true;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("batch: does not apply to ")));
  spec.loss = Loss::kSoftDice;
  EXPECT_THAT(Validate(spec), IsOk());
  spec.activation = static_cast<Activation>(3);
  EXPECT_THAT(Validate(spec),
              StatusIs(kInvalid, HasSubstr("activation: must be in [0, 2]; was 3")));
  spec.activation = Activation::kSigmoid;
  spec.label_check = LabelCheck::kRenormalize;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("label_check: RENORMALIZE")));
  spec.label_check = LabelCheck::kReport;
  spec.normalizer = Normalizer::kElements;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("normalizer: ELEMENTS does not apply to "
                                                           "soft_dice")));
  spec.normalizer = Normalizer::kValid;
  spec.temperature = 2;
  EXPECT_THAT(Validate(spec),
              StatusIs(kInvalid, HasSubstr("temperature: does not apply to soft_dice; was 2")));
  spec.temperature.reset();
  spec.z_loss = 0.1f;
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("z_loss: does not apply to soft_dice")));
  spec.z_loss.reset();
  spec.pos_weight = {2};
  EXPECT_THAT(Validate(spec), StatusIs(kInvalid, HasSubstr("pos_weight")));
}

}  // namespace
}  // namespace softloss
