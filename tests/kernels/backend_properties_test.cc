// What ties the losses together, on every backend that serves them: no oracle but mathematics.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/kernels/family_specs.h"
#include "tests/testing/score_case.h"

namespace softloss::testing {
namespace {

constexpr std::size_t kRows = 12;

struct Scored {
  std::vector<double> loss, gradient;
};

// Rows of logits and of labels that sum to one, in fp64.
struct Problem {
  std::size_t classes = 1;
  std::vector<double> x, t;
};

std::vector<double> Softmax(std::vector<double> x, std::size_t classes) {
  for (std::size_t begin = 0; begin < x.size(); begin += classes) {
    double max = -HUGE_VAL, sum = 0;
    for (std::size_t c = 0; c < classes; ++c) max = std::max(max, x[begin + c]);
    for (std::size_t c = 0; c < classes; ++c) {
      sum += x[begin + c] = std::exp(x[begin + c] - max);
    }
    for (std::size_t c = 0; c < classes; ++c) x[begin + c] /= sum;
  }
  return x;
}

std::vector<double> Map(std::vector<double> values, const std::function<double(double)>& f) {
  for (double& v : values) v = f(v);
  return values;
}

LossSpec Spec(Loss loss, std::optional<float> LossSpec::*parameter = nullptr, float value = 0) {
  LossSpec spec;
  spec.loss = loss;
  if (parameter != nullptr) spec.*parameter = value;
  return spec;
}

class BackendPropertiesTest : public BackendTest {
 protected:
  void ForProblems(const std::function<void(const Problem&)>& check) {
    for (std::size_t classes : {2u, 5u, 21u, 70u, 300u}) {
      Problem p;
      p.classes = classes;
      for (std::size_t i = 0; i < kRows * classes; ++i) {
        // Multiples of 1/8, so that shifts and scales by powers of two are exact.
        p.x.push_back(std::round(24 * random_.Normal()) / 8);
        p.t.push_back(random_.Normal());
      }
      p.t = Softmax(p.t, classes);
      check(p);
      if (HasFailure()) return;
    }
  }

  bool Serves(const LossSpec& spec) {
    const absl::StatusOr<ItemPlan> plan = MakePlan(Item(2), spec);
    return backend().Supports(plan->key).ok();
  }

  static ItemShape Item(std::size_t classes) {
    ItemShape item = FamilyItem(kRows, static_cast<std::int64_t>(classes), true);
    item.prediction = item.label.dtype = DType::kF64;
    item.gradient = DType::kF64;
    return item;
  }

  Scored Score(const LossSpec& spec, std::size_t classes, const std::vector<double>& x,
               const std::vector<double>& t) {
    const ScoreOutcome outcome = ScoreAlone(backend(), CaseOf(Item(classes), spec, x, t));
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    return {Decode(DType::kF64, outcome.row_loss), Decode(DType::kF64, outcome.gradient)};
  }
  Scored Score(const LossSpec& spec, const Problem& p) { return Score(spec, p.classes, p.x, p.t); }

  // Element by element, `a` = factor·`b`.
  static void ExpectSame(const std::vector<double>& a, const std::vector<double>& b,
                         double tolerance = 1e-12, double factor = 1) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a[i], factor * b[i], tolerance * (1 + std::fabs(a[i]))) << i;
    }
  }
  void ExpectSameLoss(const LossSpec& a, const LossSpec& b, double factor = 1) {
    if (!Serves(a) || !Serves(b)) return;
    ForProblems([&](const Problem& p) {
      const Scored one = Score(a, p), other = Score(b, p);
      ExpectSame(one.loss, other.loss, 1e-12, factor);
      ExpectSame(one.gradient, other.gradient, 1e-12, factor);
    });
  }

  std::vector<Loss> over_classes() const {
    std::vector<Loss> found;
    for (Loss loss : losses()) {
      if (!IsElementwise(loss)) found.push_back(loss);
    }
    return found;
  }

  Random random_{99};
};

TEST_P(BackendPropertiesTest, GradientsSumToZeroOverClasses) {
  for (Loss loss : over_classes()) {
    ForProblems([&](const Problem& p) {
      const Scored scored = Score(Spec(loss), p);
      for (std::size_t r = 0; r < kRows; ++r) {
        double sum = 0;
        for (std::size_t c = 0; c < p.classes; ++c) sum += scored.gradient[r * p.classes + c];
        EXPECT_NEAR(sum, 0, 1e-12) << Name(loss);
      }
    });
  }
}

TEST_P(BackendPropertiesTest, AShiftOfAllLogitsChangesNothing) {
  for (Loss loss : over_classes()) {
    ForProblems([&](const Problem& p) {
      const auto shifted = Map(p.x, [](double v) { return v + 4096; });
      const Scored there = Score(Spec(loss), p.classes, shifted, p.t), here = Score(Spec(loss), p);
      ExpectSame(there.loss, here.loss);
      ExpectSame(there.gradient, here.gradient);
    });
  }
}

TEST_P(BackendPropertiesTest, TemperatureDividesTheLogits) {
  for (Loss loss : over_classes()) {
    if (loss == Loss::kDistillation || !TakesTemperature(loss)) continue;
    const LossSpec warm = Spec(loss, &LossSpec::temperature, 4);
    if (!Serves(warm)) continue;
    ForProblems([&](const Problem& p) {
      const auto cooled = Map(p.x, [](double v) { return v / 4; });
      const Scored a = Score(warm, p), b = Score(Spec(loss), p.classes, cooled, p.t);
      ExpectSame(a.loss, b.loss);
      ExpectSame(a.gradient, b.gradient, 1e-12, 0.25);
    });
  }
}

TEST_P(BackendPropertiesTest, DistillationIsKlTimesTheSquareOfTheTemperature) {
  ExpectSameLoss(Spec(Loss::kDistillation, &LossSpec::temperature, 3),
                 Spec(Loss::kKlDivergence, &LossSpec::temperature, 3), 9);
}

TEST_P(BackendPropertiesTest, CrossEntropyLessTheLabelsEntropyIsKl) {
  const LossSpec ce = Spec(Loss::kSoftmaxCrossEntropy), kl = Spec(Loss::kKlDivergence);
  if (!Serves(kl)) GTEST_SKIP() << "no KL divergence";
  ForProblems([&](const Problem& p) {
    const Scored a = Score(ce, p), b = Score(kl, p);
    ExpectSame(a.gradient, b.gradient);
    for (std::size_t r = 0; r < kRows; ++r) {
      double entropy = 0;
      for (std::size_t c = 0; c < p.classes; ++c) {
        const double t = p.t[r * p.classes + c];
        entropy -= t * std::log(t);
      }
      EXPECT_NEAR(a.loss[r] - entropy, b.loss[r], 1e-12);
    }
  });
}

TEST_P(BackendPropertiesTest, ParametersThatTurnALossIntoCrossEntropy) {
  const LossSpec ce = Spec(Loss::kSoftmaxCrossEntropy);
  ExpectSameLoss(Spec(Loss::kExpectedFocal, &LossSpec::gamma, 0), ce);
  ExpectSameLoss(Spec(Loss::kPoly1CrossEntropy, &LossSpec::epsilon, 0), ce);
  ExpectSameLoss(Spec(Loss::kSymmetricCrossEntropy, &LossSpec::beta, 0), ce);
}

TEST_P(BackendPropertiesTest, ReverseKlIsKlWithTheRolesExchanged) {
  const LossSpec reverse = Spec(Loss::kReverseKlDivergence), kl = Spec(Loss::kKlDivergence);
  if (!Serves(reverse)) GTEST_SKIP() << "no reverse KL divergence";
  ForProblems([&](const Problem& p) {
    const auto log_t = Map(p.t, [](double v) { return std::log(v); });
    ExpectSame(Score(reverse, p).loss, Score(kl, p.classes, log_t, Softmax(p.x, p.classes)).loss,
               1e-11);
  });
}

TEST_P(BackendPropertiesTest, JensenShannonTendsToTheDivergencesAtItsEnds) {
  const auto jsd = [](float beta) {
    return Spec(Loss::kJensenShannonDivergence, &LossSpec::beta, beta);
  };
  if (!Serves(jsd(0.5f))) GTEST_SKIP() << "no Jensen-Shannon divergence";
  ExpectSameLoss(jsd(0), Spec(Loss::kKlDivergence));
  ExpectSameLoss(jsd(1), Spec(Loss::kReverseKlDivergence));
  ForProblems([&](const Problem& p) {
    const auto mild = Map(p.x, [](double v) { return v / 8; });
    const float small = 0x1p-20f;
    const Scored forward = Score(Spec(Loss::kKlDivergence), p.classes, mild, p.t),
                 reverse = Score(Spec(Loss::kReverseKlDivergence), p.classes, mild, p.t);
    ExpectSame(Score(jsd(small), p.classes, mild, p.t).loss, forward.loss, 1e-5, small);
    for (std::size_t r = 0; r < kRows; ++r) {
      EXPECT_NEAR(Score(jsd(small), p.classes, mild, p.t).loss[r] / small, forward.loss[r], 1e-4);
      EXPECT_NEAR(Score(jsd(1 - small), p.classes, mild, p.t).loss[r] / small, reverse.loss[r],
                  1e-4);
    }
  });
}

TEST_P(BackendPropertiesTest, SmoothingIsALabelMixedWithTheUniformOne) {
  for (Loss loss : over_classes()) {
    LossSpec smooth = Spec(loss);
    smooth.label_smoothing = 0.25f;
    ForProblems([&](const Problem& p) {
      const double share = 0.25 / static_cast<double>(p.classes);
      const auto mixed = Map(p.t, [&](double v) { return 0.75 * v + share; });
      const Scored a = Score(smooth, p), b = Score(Spec(loss), p.classes, p.x, mixed);
      ExpectSame(a.loss, b.loss);
      ExpectSame(a.gradient, b.gradient);
    });
  }
}

// A pair of classes is one element, the difference of its logits.
TEST_P(BackendPropertiesTest, TwoClassesAreAnElement) {
  const struct {
    Loss rows, elements;
    double factor;
  } pairs[] = {{Loss::kSoftmaxCrossEntropy, Loss::kSigmoidCrossEntropy, 1},
               {Loss::kBrier, Loss::kBinaryBrier, 2}};
  for (const auto& pair : pairs) {
    if (!Serves(Spec(pair.rows)) || !Serves(Spec(pair.elements))) continue;
    Problem p;
    std::vector<double> difference, second;
    for (std::size_t r = 0; r < kRows; ++r) {
      const double a = random_.Normal(), b = random_.Normal(), t = random_.Uniform();
      p.x.insert(p.x.end(), {a, b});
      p.t.insert(p.t.end(), {1 - t, t});
      difference.push_back(b - a);
      second.push_back(t);
    }
    const Scored rows = Score(Spec(pair.rows), 2, p.x, p.t);
    const Scored elements = Score(Spec(pair.elements), 1, difference, second);
    ExpectSame(rows.loss, elements.loss, 1e-12, pair.factor);
    for (std::size_t r = 0; r < kRows; ++r) {
      EXPECT_NEAR(rows.gradient[2 * r + 1], pair.factor * elements.gradient[r], 1e-12);
    }
  }
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendPropertiesTest);

}  // namespace
}  // namespace softloss::testing
