// The reference's formulas against calculus: gradients against central differences, and the
// identities that tie the losses together.
#include "kernels/reference_losses.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference.h"
#include "tests/testing/random.h"

namespace softloss::reference {
namespace {

using testing::Random;
using Values = std::vector<Real>;

ScoreKey KeyOf(const LossSpec& spec, std::size_t classes) {
  ScoreKey key;
  key.loss = spec.loss;
  key.prediction = DType::kF64;
  key.classes = static_cast<std::int64_t>(classes);
  return key;
}

Row Score(const LossSpec& spec, const Values& x, const Values& t) {
  return ScoreRow(KeyOf(spec, x.size()), spec, x, t, 1.5L);
}

Real Sum(const Values& values) {
  Real sum = 0;
  for (Real v : values) sum += v;
  return sum;
}

Values Logits(Random& random, std::size_t n) {
  Values x(n);
  for (Real& v : x) v = 3 * random.Normal();
  return x;
}

Values Probabilities(Random& random, std::size_t n, bool normalize) {
  Values p(n);
  for (Real& v : p) v = 0.02 + 0.9 * random.Uniform();
  const Real sum = Sum(p);
  for (Real& v : p) v /= normalize ? sum : 1;
  return p;
}

// The loss with every option that it takes, one at a time and all together.
std::vector<LossSpec> Variants(Loss loss, std::size_t classes) {
  std::vector<LossSpec> specs(1);
  specs[0].loss = loss;
  const auto vary = [&](const std::function<void(LossSpec&)>& change) {
    specs.push_back(specs[0]);
    change(specs.back());
  };
  vary([](LossSpec& s) { s.label_smoothing = 0.2f; });
  vary([&](LossSpec& s) {
    for (std::size_t c = 0; c < classes; ++c) s.class_weight.push_back(0.3f + 0.5f * c);
  });
  vary([&](LossSpec& s) {
    s.class_mask.assign(classes, 1);
    s.class_mask[1] = 0;
  });
  for (const ParameterRule& rule : Parameters(loss)) {
    const float some = rule.member == &LossSpec::beta && rule.high > 1 ? 2.5f : 0.4f;
    vary([&](LossSpec& s) { s.*rule.member = some; });
    vary([&](LossSpec& s) { s.*rule.member = std::max(rule.low, 1.0f); });
  }
  if (loss == Loss::kSigmoidCrossEntropy) vary([](LossSpec& s) { s.pos_weight = {2.5f}; });
  vary([&](LossSpec& s) { s.prediction_kind = PredictionKind::kProbabilities; });
  vary([&](LossSpec& s) {
    s.prediction_kind = PredictionKind::kProbabilities;
    s.label_smoothing = 0.1f;
    for (std::size_t c = 0; c < classes; ++c) s.class_weight.push_back(1.3f - 0.2f * c);
  });
  return specs;
}

std::string Describe(const LossSpec& spec) {
  std::string text(Name(spec.loss));
  for (const ParameterRule& rule : Parameters(spec.loss)) {
    if ((spec.*rule.member).has_value()) {
      text += std::string(" ") + rule.name + "=" + std::to_string(*(spec.*rule.member));
    }
  }
  if (spec.label_smoothing > 0) text += " smoothed";
  if (!spec.class_weight.empty()) text += " weighted";
  if (!spec.class_mask.empty()) text += " masked";
  if (spec.prediction_kind == PredictionKind::kProbabilities) text += " of probabilities";
  return text;
}

TEST(ReferenceLossesTest, GradientsAreTheDerivatives) {
  Random random(7);
  constexpr std::size_t kClasses = 4;
  constexpr Real kStep = 1e-6L;
  for (Loss loss : AllLosses()) {
    if (IsRegional(loss)) continue;  // reference_regions_test.cc
    for (const LossSpec& spec : Variants(loss, kClasses)) {
      ASSERT_TRUE(Validate(spec).ok()) << Validate(spec);
      for (int trial = 0; trial < 6; ++trial) {
        const bool logits = spec.prediction_kind == PredictionKind::kLogits;
        Values x = logits ? Logits(random, kClasses) : Probabilities(random, kClasses, trial < 3);
        const Values t = Probabilities(random, kClasses, trial % 2 == 0);
        const Row row = Score(spec, x, t);
        for (std::size_t c = 0; c < kClasses; ++c) {
          const Real at = x[c];
          x[c] = at + kStep;
          const Real above = Sum(Score(spec, x, t).loss);
          x[c] = at - kStep;
          const Real below = Sum(Score(spec, x, t).loss);
          x[c] = at;
          EXPECT_NEAR(static_cast<double>(row.gradient[c]),
                      static_cast<double>((above - below) / (2 * kStep)),
                      1e-9 * static_cast<double>(1 + row.gradient_scale[c]))
              << Describe(spec) << ", class " << c;
        }
      }
    }
  }
}

TEST(ReferenceLossesTest, ScalesBoundWhatTheyJudge) {
  Random random(8);
  for (Loss loss : AllLosses()) {
    if (IsRegional(loss)) continue;  // reference_regions_test.cc
    for (const LossSpec& spec : Variants(loss, 5)) {
      for (int trial = 0; trial < 10; ++trial) {
        const bool logits = spec.prediction_kind == PredictionKind::kLogits;
        const Row row = Score(spec, logits ? Logits(random, 5) : Probabilities(random, 5, true),
                              Probabilities(random, 5, trial % 2 == 0));
        for (std::size_t i = 0; i < row.loss.size(); ++i) {
          EXPECT_LE(std::fabs(row.loss[i]), row.terms[i] * (1 + 1e-15L)) << Describe(spec);
        }
        for (std::size_t c = 0; c < 5; ++c) {
          EXPECT_LE(std::fabs(row.gradient[c]), 2 * row.gradient_scale[c] * (1 + 1e-15L))
              << Describe(spec);
        }
      }
    }
  }
}

LossSpec SpecOf(Loss loss) {
  LossSpec spec;
  spec.loss = loss;
  return spec;
}

Real Loss1(const LossSpec& spec, const Values& x, const Values& t) {
  return Sum(Score(spec, x, t).loss);
}

// The losses of one row agree with each other where the mathematics says so.
TEST(ReferenceLossesTest, LossesMeetInTheirLimits) {
  Random random(9);
  const LossSpec ce = SpecOf(Loss::kSoftmaxCrossEntropy);
  const LossSpec kl = SpecOf(Loss::kKlDivergence);
  for (int trial = 0; trial < 20; ++trial) {
    const Values x = Logits(random, 6);
    const Values t = Probabilities(random, 6, true);
    Real entropy = 0;
    for (Real v : t) entropy -= v * std::log(v);
    const Real cross_entropy = Loss1(ce, x, t);
    const auto near = [](Real a, Real b, double tolerance) {
      EXPECT_NEAR(static_cast<double>(a), static_cast<double>(b), tolerance);
    };
    near(Loss1(kl, x, t), cross_entropy - 1.5L * entropy, 1e-15);

    LossSpec focal = SpecOf(Loss::kExpectedFocal);
    focal.gamma = 0;
    near(Loss1(focal, x, t), cross_entropy, 1e-15);
    LossSpec poly = SpecOf(Loss::kPoly1CrossEntropy);
    poly.epsilon = 0;
    near(Loss1(poly, x, t), cross_entropy, 1e-15);
    LossSpec symmetric = SpecOf(Loss::kSymmetricCrossEntropy);
    symmetric.beta = 0;
    near(Loss1(symmetric, x, t), cross_entropy, 1e-15);
    LossSpec jsd = SpecOf(Loss::kJensenShannonDivergence);
    jsd.beta = 0;
    near(Loss1(jsd, x, t), Loss1(kl, x, t), 1e-15);
    jsd.beta = 1;
    near(Loss1(jsd, x, t), Loss1(SpecOf(Loss::kReverseKlDivergence), x, t), 1e-15);
    // β → 0: JSD/β → KL(t‖p).
    jsd.beta = 1e-9f;
    near(Loss1(jsd, x, t) / 1e-9f, Loss1(kl, x, t), 1e-3);

    // T²·KL at T, from KL at the same temperature.
    LossSpec distillation = SpecOf(Loss::kDistillation);
    distillation.temperature = 4;
    LossSpec tempered = kl;
    tempered.temperature = 4;
    near(Loss1(distillation, x, t), 16 * Loss1(tempered, x, t), 1e-14);
    // A temperature is a division of the logits.
    Values cooler = x;
    for (Real& v : cooler) v /= 4;
    near(Loss1(tempered, x, t), Loss1(kl, cooler, t), 1e-15);

    // A class that is masked out is a class that is not there.
    LossSpec masked = SpecOf(Loss::kBrier);
    masked.class_mask = {1, 1, 0, 1, 1, 1};
    Values shorter_x = x, shorter_t = t;
    shorter_x.erase(shorter_x.begin() + 2);
    shorter_t.erase(shorter_t.begin() + 2);
    near(Loss1(masked, x, t), Loss1(SpecOf(Loss::kBrier), shorter_x, shorter_t), 1e-15);

    // z-loss adds λ·lse².
    LossSpec z = ce;
    z.z_loss = 0.5f;
    Real sum = 0;
    for (Real v : x) sum += std::exp(v);
    near(Loss1(z, x, t), cross_entropy + 1.5L * 0.5L * std::log(sum) * std::log(sum), 1e-13);
  }
}

// Proper losses are least where the prediction is the label; a focal loss is known not to be.
TEST(ReferenceLossesTest, ProperLossesAreLeastAtTheLabel) {
  Random random(10);
  for (Loss loss : {Loss::kSoftmaxCrossEntropy, Loss::kKlDivergence, Loss::kReverseKlDivergence,
                    Loss::kJensenShannonDivergence, Loss::kDistillation, Loss::kBrier}) {
    const LossSpec spec = SpecOf(loss);
    for (int trial = 0; trial < 10; ++trial) {
      const Values t = Probabilities(random, 5, true);
      Values x(5);
      for (std::size_t c = 0; c < 5; ++c) x[c] = std::log(t[c]) + 7;
      const Row best = Score(spec, x, t);
      for (Real g : best.gradient) EXPECT_NEAR(static_cast<double>(g), 0, 1e-16) << Name(loss);
      const Values other = Logits(random, 5);
      EXPECT_GT(Loss1(spec, other, t), best.loss[0]) << Name(loss);
    }
  }
  // γ = 2, t = 0.3: the expected focal loss bottoms at p = 0.42, quality focal at 0.30.
  LossSpec focal = SpecOf(Loss::kExpectedFocal);
  Real best = 1e9L, at = 0;
  for (Real p = 0.01L; p < 0.99L; p += 0.001L) {
    const Real loss = Loss1(focal, {std::log(p / (1 - p)), 0}, {0.3L, 0.7L});
    if (loss < best) best = loss, at = p;
  }
  EXPECT_NEAR(static_cast<double>(at), 0.42, 0.006);
  LossSpec quality = SpecOf(Loss::kQualityFocal);
  EXPECT_NEAR(static_cast<double>(Loss1(quality, {std::log(0.3L / 0.7L)}, {0.3L})), 0, 1e-30);
}

TEST(ReferenceLossesTest, ReverseKlOfAClassWithoutLabelIsInfinite) {
  const LossSpec spec = SpecOf(Loss::kReverseKlDivergence);
  const Row row = Score(spec, {1, 2, 3}, {0.5L, 0, 0.5L});
  EXPECT_EQ(row.loss[0], HUGE_VALL);
  EXPECT_TRUE(std::isnan(row.gradient[1]));
  EXPECT_EQ(row.tally.nonfinite_losses, 1);
  LossSpec floored = spec;
  floored.epsilon = 1e-3f;
  EXPECT_TRUE(std::isfinite(Score(floored, {1, 2, 3}, {0.5L, 0, 0.5L}).loss[0]));
}

TEST(ReferenceLossesTest, WhatIsNoProbabilityIsNotScored) {
  LossSpec spec = SpecOf(Loss::kBrier);
  spec.prediction_kind = PredictionKind::kProbabilities;
  for (Real bad : {-0.1L, 1.1L, std::nanl("")}) {
    const Row row = Score(spec, {bad, 0.5L}, {0.5L, 0.5L});
    EXPECT_TRUE(std::isnan(row.loss[0]));
    EXPECT_EQ(row.tally.nonfinite_predictions, 1);
  }
  const Row zero = Score(spec, {0, 1}, {0.5L, 0.5L});
  EXPECT_NEAR(static_cast<double>(zero.loss[0]), 1.5 * 0.5, 1e-6);
}

}  // namespace
}  // namespace softloss::reference
