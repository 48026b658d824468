#include "kernels/reduce.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

std::vector<LeafSum> Losses(std::initializer_list<double> values) {
  std::vector<LeafSum> leaves;
  for (double v : values) leaves.push_back({.loss = v});
  return leaves;
}

double Sum(std::initializer_list<double> values) {
  return PairwiseSum(Losses(values), &LeafSum::loss);
}

TEST(PairwiseSumTest, AddsInTheDocumentedTree) {
  EXPECT_EQ(Sum({}), 0);
  EXPECT_EQ(Sum({5}), 5);
  // 1e16 absorbs a lone 1, but not the pair: (1e16 + 1) + (1 + 1) against ((1e16 + 1) + 1) + 1.
  EXPECT_EQ(Sum({1e16, 1, 1, 1}), (1e16 + 1) + (1.0 + 1.0));
  EXPECT_NE(Sum({1e16, 1, 1, 1}), ((1e16 + 1) + 1) + 1);
  // The odd one passes up: ((a + b) + (c + d)) + e.
  EXPECT_EQ(Sum({1, 1, 1e16, -1e16, 1e-3}), ((1.0 + 1.0) + 0.0) + 1e-3);
  EXPECT_EQ(Sum({0.1, 0.2, 0.3}), (0.1 + 0.2) + 0.3);
  EXPECT_EQ(Sum({0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}),
            ((0.1 + 0.2) + (0.3 + 0.4)) + ((0.5 + 0.6) + 0.7));
}

TEST(PairwiseSumTest, TakesTheMemberAsked) {
  const std::vector<LeafSum> leaves = {{1, 10, 100}, {2, 20, 200}, {3, 30, 300}};
  EXPECT_EQ(PairwiseSum(leaves, &LeafSum::loss), 6);
  EXPECT_EQ(PairwiseSum(leaves, &LeafSum::weight), 60);
  EXPECT_EQ(PairwiseSum(leaves, &LeafSum::gradient_square), 600);
}

TEST(PairwiseSumTest, IsAccurateOverManyLeaves) {
  testing::Random random(3);
  std::vector<LeafSum> leaves(100001);
  long double exact = 0;
  for (LeafSum& leaf : leaves) exact += leaf.loss = random.Uniform();
  EXPECT_NEAR(PairwiseSum(leaves, &LeafSum::loss), static_cast<double>(exact),
              20 * 0x1p-53 * static_cast<double>(exact));
}

class FinishTest : public ::testing::Test {
 protected:
  FinishTest() {
    tally_.valid = 6;
    spec_.loss = Loss::kSoftmaxCrossEntropy;
    plan_.geometry = {.outer = 2, .classes = 5, .inner = 4, .batch = 2};
  }
  ItemTotals Run() { return *Finish(spec_, plan_, leaves_, tally_); }

  LossSpec spec_;
  ItemPlan plan_;
  std::vector<LeafSum> leaves_ = {{.loss = 10, .weight = 2, .gradient_square = 9},
                                  {.loss = 14, .weight = 1, .gradient_square = 16}};
  Tally tally_;
};

TEST_F(FinishTest, ReductionsOfTheSum) {
  spec_.reduction = Reduction::kSum;
  EXPECT_EQ(Run().loss, 24);
  EXPECT_EQ(Run().gradient_scale, 1);
  EXPECT_EQ(Run().denominator, 6);
  spec_.reduction = Reduction::kNone;
  EXPECT_EQ(Run().loss, 24);
  EXPECT_EQ(Run().gradient_scale, 1);
  spec_.reduction = Reduction::kMean;
  EXPECT_EQ(Run().loss, 4);
  EXPECT_EQ(Run().loss_sum, 24);
  EXPECT_EQ(Run().gradient_scale, 1.0 / 6);
  EXPECT_EQ(Run().gradient_l2_norm, 5);
  EXPECT_EQ(Run().tally, tally_);
  EXPECT_FALSE(Run().empty);
}

TEST_F(FinishTest, DenominatorsOfTheNormalizers) {
  const auto denominator = [&](Normalizer n) {
    spec_.normalizer = n;
    return Run().denominator;
  };
  EXPECT_EQ(denominator(Normalizer::kNone), 1);
  EXPECT_EQ(denominator(Normalizer::kFull), 8);
  EXPECT_EQ(denominator(Normalizer::kValid), 6);
  EXPECT_EQ(denominator(Normalizer::kBatch), 2);
  EXPECT_EQ(denominator(Normalizer::kWeighted), 3);
  EXPECT_EQ(denominator(Normalizer::kElements), 40);
  spec_.loss = Loss::kSigmoidCrossEntropy;
  EXPECT_EQ(denominator(Normalizer::kFull), 40);
}

TEST_F(FinishTest, CountsClampAtOneAndNothingValidMeansZero) {
  tally_ = Tally();
  leaves_.clear();
  plan_.geometry = {.outer = 0, .classes = 5, .inner = 1, .batch = 0};
  for (Normalizer n :
       {Normalizer::kNone, Normalizer::kFull, Normalizer::kValid, Normalizer::kBatch}) {
    spec_.normalizer = n;
    EXPECT_EQ(Run().denominator, 1);
    EXPECT_EQ(Run().loss, 0);
    EXPECT_EQ(Run().gradient_scale, 1);
    EXPECT_TRUE(Run().empty);
  }
  spec_.normalizer = Normalizer::kWeighted;
  EXPECT_EQ(Run().denominator, 0);
  EXPECT_EQ(Run().loss, 0);
  EXPECT_EQ(Run().gradient_scale, 0);
}

// What torch and Caffe divide by when told nothing.
TEST_F(FinishTest, ProfilesFillInTheNormalizer) {
  const auto denominator = [&](Profile profile, Loss loss, LabelKind kind) {
    spec_.profile = profile;
    spec_.normalizer = Normalizer::kProfile;
    spec_.loss = loss;
    plan_.key.label.kind = kind;
    return Run().denominator;
  };
  using enum LabelKind;
  EXPECT_EQ(denominator(Profile::kTorch, Loss::kSoftmaxCrossEntropy, kDense), 8);
  EXPECT_EQ(denominator(Profile::kTorch, Loss::kSoftmaxCrossEntropy, kClassId), 3);
  EXPECT_EQ(denominator(Profile::kTorch, Loss::kSigmoidCrossEntropy, kDense), 40);
  EXPECT_EQ(denominator(Profile::kTorch, Loss::kKlDivergence, kDense), 40);
  EXPECT_EQ(denominator(Profile::kCaffe, Loss::kSigmoidCrossEntropy, kDense), 2);
  EXPECT_EQ(denominator(Profile::kCaffe, Loss::kSoftmaxCrossEntropy, kClassId), 6);
  spec_.normalizer = Normalizer::kNone;
  EXPECT_EQ(Run().denominator, 1);
}

TEST_F(FinishTest, TheMeanOfNothingIsNanForTorch) {
  tally_ = Tally();
  leaves_ = {LeafSum()};
  spec_.profile = Profile::kTorch;
  spec_.normalizer = Normalizer::kProfile;
  EXPECT_TRUE(std::isnan(Run().loss));
  EXPECT_EQ(Run().loss_sum, 0);
  spec_.reduction = Reduction::kSum;
  EXPECT_EQ(Run().loss, 0);
}

TEST_F(FinishTest, WeightsThatSumToZeroGiveWhatDivisionGives) {
  spec_.normalizer = Normalizer::kWeighted;
  leaves_ = {{.loss = 0, .weight = 0}};
  EXPECT_TRUE(std::isnan(Run().loss));
  EXPECT_EQ(Run().gradient_scale, 0);
  leaves_ = {{.loss = 3, .weight = 0}};
  EXPECT_TRUE(std::isinf(Run().loss));
}

TEST_F(FinishTest, NonfiniteLossesAreNotHidden) {
  leaves_[1].loss = std::nan("");
  EXPECT_TRUE(std::isnan(Run().loss));
  leaves_[1].loss = HUGE_VAL;
  EXPECT_EQ(Run().loss_sum, HUGE_VAL);
}

TEST_F(FinishTest, StrictRefusesBadLabels) {
  spec_.label_check = LabelCheck::kStrict;
  EXPECT_THAT(Finish(spec_, plan_, leaves_, tally_), IsOk());
  for (auto member :
       {&Tally::out_of_range_labels, &Tally::unnormalized_labels, &Tally::nonfinite_labels}) {
    Tally bad = tally_;
    bad.*member = 3;
    EXPECT_THAT(Finish(spec_, plan_, leaves_, bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("label: STRICT")));
    LossSpec report = spec_;
    report.label_check = LabelCheck::kReport;
    EXPECT_THAT(Finish(report, plan_, leaves_, bad), IsOk());
  }
  tally_.nonfinite_predictions = tally_.nonfinite_losses = 1;
  EXPECT_THAT(Finish(spec_, plan_, leaves_, tally_), IsOk());
}

// A mean is over regions: 2 images of 5 classes.
TEST(FinishRegionalTest, CountsRegions) {
  ItemShape item;
  item.shape = {2, 5, 30};
  item.class_axis = 1;
  LossSpec spec;
  spec.loss = Loss::kSoftDice;
  const ItemPlan plan = *MakePlan(item, spec);
  const std::vector<LeafSum> leaves = {{.loss = 2, .weight = 6}, {.loss = 1, .weight = 4}};
  Tally tally;
  tally.valid = 8;
  const auto mean = [&](Normalizer normalizer) {
    spec.normalizer = normalizer;
    return Finish(spec, plan, leaves, tally)->loss;
  };
  EXPECT_EQ(mean(Normalizer::kValid), 3.0 / 8);
  EXPECT_EQ(mean(Normalizer::kFull), 3.0 / 10);
  EXPECT_EQ(mean(Normalizer::kBatch), 3.0 / 2);
  EXPECT_EQ(mean(Normalizer::kWeighted), 3.0 / 10);
  EXPECT_EQ(mean(Normalizer::kNone), 3.0);
  spec.profile = Profile::kTorch;
  EXPECT_EQ(mean(Normalizer::kProfile), 3.0 / 8);
}

TEST(TallyTest, AddsEveryCount) {
  const Tally a = {1, 2, 3, 4, 5, 6};
  Tally b = {10, 20, 30, 40, 50, 60};
  b += a;
  EXPECT_EQ(b, (Tally{11, 22, 33, 44, 55, 66}));
}

}  // namespace
}  // namespace softloss
