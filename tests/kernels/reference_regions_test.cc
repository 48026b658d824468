// The reference's regional losses against calculus and against what their sources write.
#include "kernels/reference_regions.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace softloss::reference {
namespace {

using testing::Random;

constexpr std::size_t kRows = 7, kClasses = 4;

std::vector<Loss> Regional() {
  std::vector<Loss> found;
  for (Loss loss : AllLosses()) {
    if (IsRegional(loss)) found.push_back(loss);
  }
  return found;
}

ScoreKey KeyOf(const LossSpec& spec) {
  ScoreKey key;
  key.loss = spec.loss;
  key.prediction = DType::kF64;
  key.classes = kClasses;
  key.activation = spec.activation;
  return key;
}

std::vector<Position> Draw(const LossSpec& spec, Random& random) {
  std::vector<Position> positions(kRows);
  for (std::size_t r = 0; r < kRows; ++r) {
    Position& at = positions[r];
    at.counts = r != 2;
    at.weight = r == 3 ? 0 : r == 4 ? 2.5L : 1;
    for (std::size_t c = 0; c < kClasses; ++c) {
      const bool logits = spec.prediction_kind == PredictionKind::kLogits;
      at.x.push_back(logits ? 2 * random.Normal() : 0.1 + 0.8 * random.Uniform());
      at.t.push_back(random.Uniform());
    }
  }
  return positions;
}

Real Total(const LossSpec& spec, const std::vector<Position>& positions) {
  Real sum = 0;
  for (Real v : ScoreImage(KeyOf(spec), spec, positions).loss) sum += v;
  return sum;
}

std::vector<LossSpec> Variants(Loss loss) {
  std::vector<LossSpec> specs;
  for (Activation activation : {Activation::kSigmoid, Activation::kSoftmax}) {
    for (PredictionKind kind : {PredictionKind::kLogits, PredictionKind::kProbabilities}) {
      LossSpec one;
      one.loss = loss;
      one.activation = activation;
      one.prediction_kind = kind;
      const auto vary = [&](const std::function<void(LossSpec&)>& change) {
        specs.push_back(one);
        change(specs.back());
      };
      vary([](LossSpec&) {});
      vary([](LossSpec& s) { s.label_smoothing = 0.2f; });
      vary([](LossSpec& s) { s.class_weight = {0.5f, 2, 0, 1}; });
      vary([](LossSpec& s) { s.class_mask = {1, 0, 1, 1}; });
      vary([&](LossSpec& s) {
        if (activation == Activation::kSoftmax) s.label_check = LabelCheck::kRenormalize;
      });
      for (const ParameterRule& rule : Parameters(loss)) {
        for (float value : {0.0f, 0.3f, 2.0f}) vary([&](LossSpec& s) { s.*rule.member = value; });
      }
    }
  }
  return specs;
}

TEST(ReferenceRegionsTest, GradientsAreTheDerivatives) {
  Random random(3);
  constexpr Real kStep = 1e-6L;
  for (Loss loss : Regional()) {
    for (const LossSpec& spec : Variants(loss)) {
      ASSERT_TRUE(Validate(spec).ok()) << Validate(spec);
      std::vector<Position> positions = Draw(spec, random);
      const Image image = ScoreImage(KeyOf(spec), spec, positions);
      for (std::size_t r = 0; r < kRows; ++r) {
        for (std::size_t c = 0; c < kClasses; ++c) {
          Real& x = positions[r].x[c];
          const Real at = x;
          x = at + kStep;
          const Real above = Total(spec, positions);
          x = at - kStep;
          const Real below = Total(spec, positions);
          x = at;
          EXPECT_NEAR(static_cast<double>(image.gradient[r][c]),
                      static_cast<double>((above - below) / (2 * kStep)), 1e-10)
              << Name(loss) << " activation " << static_cast<int>(spec.activation) << ", row " << r
              << ", class " << c;
        }
      }
    }
  }
}

// 1 - (2I + smooth)/(Σs + Σt + smooth), I = (Σs + Σt - Σ|s-t|)/2, as written.
TEST(ReferenceRegionsTest, SoftDiceAsItsSourceWritesIt) {
  Random random(4);
  LossSpec spec;
  spec.loss = Loss::kSoftDice;
  spec.activation = Activation::kSigmoid;
  for (float smooth : {0.0f, 1e-5f, 1.0f}) {
    spec.smooth = smooth;
    const std::vector<Position> positions = Draw(spec, random);
    const Image image = ScoreImage(KeyOf(spec), spec, positions);
    for (std::size_t c = 0; c < kClasses; ++c) {
      Real s = 0, t = 0, apart = 0;
      for (const Position& at : positions) {
        if (!at.counts) continue;
        const Real p = 1 / (1 + std::exp(-at.x[c]));
        s += at.weight * p;
        t += at.weight * at.t[c];
        apart += at.weight * std::fabs(p - at.t[c]);
      }
      const Real overlap = (s + t - apart) / 2;
      EXPECT_NEAR(static_cast<double>(image.loss[c]),
                  static_cast<double>(1 - (2 * overlap + smooth) / (s + t + smooth)), 1e-17);
    }
  }
}

TEST(ReferenceRegionsTest, CountsRegionsThatHaveAPosition) {
  LossSpec spec;
  spec.loss = Loss::kSoftDice;
  spec.activation = Activation::kSigmoid;
  spec.ignore_value = -1;
  spec.class_weight = {1, 2, 3, 4};
  std::vector<Position> positions(2);
  for (Position& at : positions) at = {true, 1, {0, 0, 0, 0}, {0.5L, -1, 0.5L, 1}};
  positions[1].t[2] = -1;
  const Image image = ScoreImage(KeyOf(spec), spec, positions);
  EXPECT_EQ(image.tally.valid, 3);
  EXPECT_EQ(image.weight, 8);
  EXPECT_EQ(image.loss[0], 0);
  EXPECT_EQ(image.loss[1], 0);
  EXPECT_EQ(image.gradient[1][2], 0);
  EXPECT_GT(image.loss[3], 0);
  EXPECT_EQ(image.tally.out_of_range_labels, 0);
}

}  // namespace
}  // namespace softloss::reference
