// The oracle itself: against closed forms, published values, its own derivative, and the edge-case
// table of docs/losses.md.
#include "kernels/reference.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/row_semantics.h"
#include "tests/testing/random.h"

namespace softloss::reference {
namespace {

constexpr Real kInf = std::numeric_limits<Real>::infinity();
constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();
using Reals = std::vector<Real>;

ScoreKey Key(Loss loss, std::size_t classes) {
  ScoreKey key;
  key.loss = loss;
  key.classes = static_cast<std::int64_t>(classes);
  return key;
}

Row Sigmoid(Real x, Real t, const LossSpec& spec = {}) {
  return ScoreRow(Key(Loss::kSigmoidCrossEntropy, 1), spec, {x}, {t}, 1);
}

Row Softmax(const Reals& x, const Reals& t, const LossSpec& spec = {}, Real weight = 1) {
  return ScoreRow(Key(Loss::kSoftmaxCrossEntropy, x.size()), spec, x, t, weight);
}

// NaN equals NaN here.
void ExpectSame(Real got, Real want) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << got;
  } else {
    EXPECT_EQ(got, want);
  }
}

TEST(ReferenceSigmoidTest, MatchesTheTextbookFormula) {
  for (Real x : {-3.0L, -0.5L, 0.0L, 0.1L, 4.0L}) {
    for (Real t : {0.0L, 0.25L, 0.5L, 1.0L, 1.5L, -0.5L}) {
      const Real s = 1 / (1 + std::exp(-x));
      const Row row = Sigmoid(x, t);
      EXPECT_NEAR(row.loss[0], -(1 - t) * std::log(1 - s) - t * std::log(s), 1e-16L);
      EXPECT_NEAR(row.gradient[0], s - t, 1e-18L);
    }
  }
}

// Optax's numeric constants for sigmoid_binary_cross_entropy, and ln(1 + e^-20).
TEST(ReferenceSigmoidTest, MatchesPublishedValues) {
  EXPECT_EQ(Sigmoid(1e9L, 0.5L).loss[0], 5e8L);
  EXPECT_EQ(Sigmoid(-1e9L, 0.5L).loss[0], 5e8L);
  EXPECT_EQ(Sigmoid(1e9L, 1).loss[0], 0);
  EXPECT_EQ(Sigmoid(-1e9L, 0).loss[0], 0);
  EXPECT_NEAR(Sigmoid(0, 0.5L).loss[0], 0.69314718055994530942L, 1e-19L);
  EXPECT_NEAR(Sigmoid(20, 1).loss[0] / 2.0611536203e-9L, 1, 1e-10L);
}

TEST(ReferenceSigmoidTest, EdgeCaseTable) {
  ExpectSame(Sigmoid(kInf, 1).loss[0], 0);
  ExpectSame(Sigmoid(kInf, 1).gradient[0], 0);
  ExpectSame(Sigmoid(kInf, 0).loss[0], kInf);
  ExpectSame(Sigmoid(kInf, 0).gradient[0], 1);
  ExpectSame(Sigmoid(kInf, 0.25L).loss[0], kInf);
  ExpectSame(Sigmoid(-kInf, 0).loss[0], 0);
  ExpectSame(Sigmoid(-kInf, 0).gradient[0], 0);
  ExpectSame(Sigmoid(-kInf, 1).loss[0], kInf);
  ExpectSame(Sigmoid(-kInf, 1).gradient[0], -1);
  ExpectSame(Sigmoid(kNan, 1).loss[0], kNan);
  ExpectSame(Sigmoid(kNan, 1).gradient[0], kNan);
  ExpectSame(Sigmoid(1, kNan).loss[0], kNan);
  const Row inf = Sigmoid(kInf, 0);
  EXPECT_EQ(inf.tally, (Tally{.valid = 1, .nonfinite_predictions = 1, .nonfinite_losses = 1}));
  EXPECT_EQ(Sigmoid(0, 1.5L).tally, (Tally{.valid = 1, .out_of_range_labels = 1}));
  EXPECT_EQ(Sigmoid(0, kNan).tally,
            (Tally{.valid = 1, .nonfinite_labels = 1, .nonfinite_losses = 1}));
}

TEST(ReferenceSigmoidTest, NanSpoilsOnlyItsElement) {
  const Row row = ScoreRow(Key(Loss::kSigmoidCrossEntropy, 3), {}, {1, kNan, 2}, {0, 0, 1}, 1);
  EXPECT_TRUE(std::isnan(row.loss[1]) && std::isnan(row.gradient[1]));
  EXPECT_TRUE(std::isfinite(row.loss[0]) && std::isfinite(row.loss[2]));
}

TEST(ReferenceSigmoidTest, ZeroWeightsDropInfiniteTerms) {
  LossSpec spec;
  spec.class_weight = {0};
  ExpectSame(Sigmoid(kInf, 0, spec).loss[0], 0);
  spec = LossSpec();
  spec.pos_weight = {0};
  ExpectSame(Sigmoid(-kInf, 1, spec).loss[0], 0);
  ExpectSame(Sigmoid(kNan, 1, spec).loss[0], kNan);
}

TEST(ReferenceSigmoidTest, WeightsMultiplyTheirTerms) {
  LossSpec spec;
  spec.pos_weight = {3};
  spec.class_weight = {2};
  const Real x = 0.7L, t = 0.3L, s = 1 / (1 + std::exp(-x));
  const Row row = Sigmoid(x, t, spec);
  EXPECT_NEAR(row.loss[0], 2 * (-(1 - t) * std::log(1 - s) - 3 * t * std::log(s)), 1e-17L);
  EXPECT_NEAR(row.gradient[0], 2 * ((3 * t + 1 - t) * s - 3 * t), 1e-18L);
  EXPECT_EQ(row.weight, 2);
}

TEST(ReferenceSigmoidTest, SmoothingMovesTowardsAHalf) {
  LossSpec spec;
  spec.label_smoothing = 0.25f;
  EXPECT_EQ(Sigmoid(1, 1, spec).loss[0], Sigmoid(1, 0.875L).loss[0]);
  EXPECT_EQ(Sigmoid(1, 0, spec).loss[0], Sigmoid(1, 0.125L).loss[0]);
}

TEST(ReferenceSigmoidTest, IgnoresElements) {
  LossSpec spec;
  spec.ignore_value = -1;
  const ScoreKey key = Key(Loss::kSigmoidCrossEntropy, 2);
  const Row row = ScoreRow(key, spec, {kNan, 0}, {-1, 0.5L}, 1);
  EXPECT_EQ(row.loss[0], 0);
  EXPECT_EQ(row.gradient[0], 0);
  EXPECT_EQ(row.tally, Tally{.valid = 1});
  spec.ignore_value = std::nan("");
  EXPECT_EQ(ScoreRow(key, spec, {0, 0}, {kNan, 0.5L}, 1).tally, Tally{.valid = 1});
}

// TensorFlow's xent_op_test_base.py, worked out there by hand from numbers of four digits.
TEST(ReferenceSoftmaxTest, MatchesPublishedValues) {
  const Row row = Softmax({1, 2, 3, 4}, {0, 0.5L, 0.5L, 0});
  EXPECT_NEAR(row.loss[0], 1.9401L, 1e-4L);
  const Real gradient[] = {0.0321L, -0.4129L, -0.2632L, 0.6439L};
  for (int c = 0; c < 4; ++c) EXPECT_NEAR(row.gradient[c], gradient[c], 1e-4L);
}

TEST(ReferenceSoftmaxTest, MatchesTheTextbookFormulaForAnySum) {
  const Reals x = {0.3L, -1.2L, 2.0L};
  for (const Reals& t : {Reals{0.2L, 0.3L, 0.5L}, Reals{1, 2, 3}, Reals{-1, 0.5L, 0.1L}}) {
    const Real d = std::exp(x[0]) + std::exp(x[1]) + std::exp(x[2]);
    const Real sum = t[0] + t[1] + t[2];
    Real loss = 0;
    const Row row = Softmax(x, t);
    for (std::size_t c = 0; c < 3; ++c) {
      loss -= t[c] * std::log(std::exp(x[c]) / d);
      EXPECT_NEAR(row.gradient[c], sum * std::exp(x[c]) / d - t[c], 1e-17L);
    }
    EXPECT_NEAR(row.loss[0], loss, 1e-16L);
  }
}

TEST(ReferenceSoftmaxTest, SmallLossesKeepTheirDigits) {
  EXPECT_NEAR(Softmax({50, 0}, {1, 0}).loss[0] / std::exp(-50.0L), 1, 1e-15L);
}

TEST(ReferenceSoftmaxTest, EdgeCaseTable) {
  // −∞, t = 0: the class does not exist.
  const Row ignored = Softmax({0, -kInf, 0}, {0.5L, 0, 0.5L});
  EXPECT_NEAR(ignored.loss[0], std::log(2.0L), 1e-18L);
  EXPECT_EQ(ignored.gradient[1], 0);
  EXPECT_EQ(ignored.tally, (Tally{.valid = 1, .nonfinite_predictions = 1}));
  // −∞, t > 0.
  const Row lost = Softmax({0, -kInf}, {0.25L, 0.75L});
  ExpectSame(lost.loss[0], kInf);
  EXPECT_EQ(lost.gradient[0], 0.75L);
  EXPECT_EQ(lost.gradient[1], -0.75L);
  EXPECT_EQ(lost.tally.nonfinite_losses, 1);
  // All −∞, any +∞, NaN anywhere: the whole row.
  for (const auto& [x, t] :
       {std::pair(Reals{-kInf, -kInf}, Reals{0, 0}), std::pair(Reals{kInf, 0}, Reals{1, 0}),
        std::pair(Reals{kNan, 0}, Reals{0, 0}), std::pair(Reals{0, 0}, Reals{kNan, 1})}) {
    const Row row = Softmax(x, t);
    for (Real v : {row.loss[0], row.gradient[0], row.gradient[1]}) ExpectSame(v, kNan);
    EXPECT_EQ(row.tally.nonfinite_losses, 1);
  }
  // All labels 0, one class, huge logits.
  const Row nothing = Softmax({3, 4}, {0, 0});
  EXPECT_EQ(nothing.loss[0], 0);
  EXPECT_EQ(nothing.gradient[0], 0);
  EXPECT_EQ(nothing.tally.unnormalized_labels, 1);
  EXPECT_EQ(Softmax({7}, {1}).loss[0], 0);
  EXPECT_EQ(Softmax({7}, {0.5L}).gradient[0], 0);
  EXPECT_EQ(Softmax({1e9L, -1e9L}, {0.5L, 0.5L}).loss[0], 1e9L);
  // Smoothing gives every class a share, the −∞ one too.
  LossSpec smooth;
  smooth.label_smoothing = 0.1f;
  ExpectSame(Softmax({0, -kInf}, {1, 0}, smooth).loss[0], kInf);
}

TEST(ReferenceSoftmaxTest, ZeroRowWeightHidesContents) {
  const Row row = Softmax({kNan, 0}, {5, -3}, {}, 0);
  EXPECT_EQ(row.loss[0], 0);
  EXPECT_EQ(row.gradient, (Reals{0, 0}));
  EXPECT_EQ(row.tally, Tally{.valid = 1});
  EXPECT_EQ(row.weight, 0);
}

TEST(ReferenceSoftmaxTest, SmoothingThenClassWeights) {
  LossSpec spec;
  spec.label_smoothing = 0.5f;
  spec.class_weight = {2, 0, 1};
  const Row row = Softmax({1, 2, 3}, {1, 0, 0}, spec);
  const Row plain = Softmax({1, 2, 3}, {2 * (0.5L + 0.5L / 3), 0, 0.5L / 3});
  EXPECT_NEAR(row.loss[0], plain.loss[0], 1e-18L);
  for (int c = 0; c < 3; ++c) EXPECT_NEAR(row.gradient[c], plain.gradient[c], 1e-18L);
  EXPECT_EQ(row.weight, 2);  // before smoothing
}

TEST(ReferenceSoftmaxTest, RenormalizeDividesByTheSum) {
  LossSpec spec;
  spec.label_check = LabelCheck::kRenormalize;
  const Row row = Softmax({1, 2}, {1, 3}, spec);
  const Row plain = Softmax({1, 2}, {0.25L, 0.75L});
  EXPECT_EQ(row.loss[0], plain.loss[0]);
  EXPECT_EQ(row.gradient, plain.gradient);
  EXPECT_EQ(row.tally.unnormalized_labels, 1);
  EXPECT_EQ(Softmax({1, 2}, {0, 0}, spec).loss[0], 0);
}

TEST(ReferenceSoftmaxTest, IgnoresRowsWhoseLabelsAllMatch) {
  LossSpec spec;
  spec.ignore_value = -1;
  EXPECT_EQ(Softmax({kNan, 1}, {-1, -1}, spec).tally, Tally());
  EXPECT_EQ(Softmax({kNan, 1}, {-1, -1}, spec).loss[0], 0);
  EXPECT_EQ(Softmax({0, 1}, {-1, 2}, spec).tally.valid, 1);
}

TEST(ReferenceSoftmaxTest, ShiftInvariantAndGradientSumsToZero) {
  testing::Random random(2);
  for (int n = 0; n < 200; ++n) {
    const auto classes = static_cast<std::size_t>(random.Int(1, 30));
    Reals x(classes), shifted(classes), t(classes);
    for (std::size_t c = 0; c < classes; ++c) {
      x[c] = std::ldexp(std::floor(1024 * random.Normal()), -8);  // so that the shift is exact
      shifted[c] = x[c] + 1024;
      t[c] = random.Uniform();
    }
    const Row row = Softmax(x, t);
    const Row moved = Softmax(shifted, t);
    EXPECT_EQ(row.loss[0], moved.loss[0]);
    EXPECT_EQ(row.gradient, moved.gradient);
    Real sum = 0;
    for (Real g : row.gradient) sum += g;
    EXPECT_NEAR(sum, 0, 1e-17L * static_cast<Real>(classes));
  }
}

// Gradient against central differences of the loss: truncation h²·|f‴|/6 and rounding ε·|f|/h are
// both below 1e-12 at h = 1e-6.
TEST(ReferenceGradientTest, IsTheDerivativeOfTheLoss) {
  testing::Random random(9);
  const Real h = 1e-6L;
  for (Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
    for (int n = 0; n < 100; ++n) {
      const auto classes = static_cast<std::size_t>(random.Int(1, 9));
      LossSpec spec;
      spec.loss = loss;
      if (n % 2) spec.label_smoothing = 0.2f;
      if (n % 3 == 0) {
        for (std::size_t c = 0; c < classes; ++c) {
          spec.class_weight.push_back(static_cast<float>(2 * random.Uniform()));
        }
      }
      if (n % 5 == 0 && IsElementwise(loss)) spec.pos_weight = {2.5f};
      Reals x(classes), t(classes);
      for (std::size_t c = 0; c < classes; ++c) {
        x[c] = 3 * random.Normal();
        t[c] = n % 4 ? random.Uniform() : random.Normal();
      }
      const ScoreKey key = Key(loss, classes);
      const auto total = [&](const Reals& at) {
        Real sum = 0;
        for (Real v : ScoreRow(key, spec, at, t, 1.5L).loss) sum += v;
        return sum;
      };
      const Row row = ScoreRow(key, spec, x, t, 1.5L);
      for (std::size_t c = 0; c < classes; ++c) {
        Reals up = x, down = x;
        up[c] += h;
        down[c] -= h;
        EXPECT_NEAR(row.gradient[c], (total(up) - total(down)) / (2 * h), 1e-10L);
      }
    }
  }
}

TEST(DecodeLabelsTest, BytesBecomeQuotientsInTheComputeType) {
  ScoreKey key = Key(Loss::kSoftmaxCrossEntropy, 3);
  key.label.dtype = DType::kU8;
  EXPECT_EQ(DecodeLabels(key, {0, 51, 255}), (Reals{0, 51.0f / 255.0f, 1}));
  key.prediction = DType::kF64;
  EXPECT_EQ(DecodeLabels(key, {0, 51, 255}), (Reals{0, 51.0 / 255.0, 1}));
  key.label.scale = LabelScale::kRowSum;
  EXPECT_EQ(DecodeLabels(key, {1, 0, 3}), (Reals{0.25L, 0, 0.75L}));
  EXPECT_EQ(DecodeLabels(key, {0, 0, 0}), (Reals{0, 0, 0}));
}

TEST(NormalizationToleranceTest, AllowsForTheLabelsRounding) {
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kF32}, 10), 1e-4 + 5 * 0x1p-24);
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kF16}, 10), 1e-4 + 5 * 0x1p-11);
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kBF16}, 10), 1e-4 + 5 * 0x1p-8);
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kF64}, 10), 1e-4 + 5 * 0x1p-53);
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kU8}, 10), 1e-4 + 5 / 255.0);
  EXPECT_DOUBLE_EQ(NormalizationTolerance({.dtype = DType::kU8, .scale = LabelScale::kRowSum}, 10),
                   1e-4 + 5 * 0x1p-24);
}

}  // namespace
}  // namespace softloss::reference
