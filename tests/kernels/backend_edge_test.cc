// Every backend against the oracle on the edge-case table of docs/losses.md. The oracle's own
// answers to it are written out in reference_test.cc.
#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"
#include "tests/testing/status_matchers.h"

namespace softloss::testing {
namespace {

using ::testing::HasSubstr;

const double kInf = HUGE_VAL;
const double kNan = std::nan("");
constexpr std::size_t kRows = 37;

ItemShape Shape(std::size_t classes, bool class_last, DType prediction = DType::kF32) {
  const auto c = static_cast<std::int64_t>(classes);
  ItemShape item;
  item.shape =
      class_last ? std::vector<std::int64_t>{kRows, c} : std::vector<std::int64_t>{c, kRows};
  item.class_axis = class_last ? 1 : 0;
  item.prediction = prediction;
  item.label.dtype = prediction == DType::kF64 ? DType::kF64 : DType::kF32;
  item.gradient = prediction;
  item.want_row_loss = true;
  return item;
}

// kRows rows of ordinary values.
struct Rows {
  Rows(std::size_t n, Random& random)
      : classes(n), x(kRows * n), t(kRows * n), mask(kRows, 1), weight(kRows, 1.5) {
    for (double& v : x) v = 3 * random.Normal();
    for (double& v : t) v = random.Uniform() / static_cast<double>(n);
  }
  double& X(std::size_t r, std::size_t c) { return x[r * classes + c]; }
  double& T(std::size_t r, std::size_t c) { return t[r * classes + c]; }

  std::size_t classes;
  std::vector<double> x, t, mask, weight;
};

class BackendEdgeTest : public BackendTest {
 protected:
  static LossSpec Spec(Loss loss) {
    LossSpec spec;
    spec.loss = loss;
    return spec;
  }

  // Calls `check(classes, class_last, prediction dtype)` for all: a vector's part, a vector, more. The
  // losses that share their way of working take fewer.
  template <typename F>
  void ForShapes(Loss loss, F check) {
    const bool own = loss == Loss::kSigmoidCrossEntropy || loss == Loss::kSoftmaxCrossEntropy;
    for (std::size_t classes : {1u, 5u, 21u, 77u, 2u, 16u, 300u}) {
      for (bool class_last : {true, false}) {
        for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
          if (!own && (SizeOf(dtype) == 2 || classes == 2 || classes == 16 || classes == 300)) {
            continue;
          }
          check(classes, class_last, dtype);
          if (HasFailure()) return;
        }
      }
    }
  }

  void Check(const Rows& rows, const ItemShape& item, const LossSpec& spec,
             bool any_nonfinite = false) {
    const ScoreCase c = CaseOf(item, spec, rows.x, rows.t, rows.mask, rows.weight);
    ExpectMatches(c, ScoreAlone(backend(), c), any_nonfinite);
  }

  Random random_{5};
};

// One strange value in one place, at each of many places; the other rows must not notice.
TEST_P(BackendEdgeTest, StrangeLogits) {
  for (Loss loss : losses()) {
    ForShapes(loss, [&](std::size_t classes, bool class_last, DType dtype) {
      for (double strange : {kInf, -kInf, kNan}) {
        for (double label : {0.0, 0.5, 1.0}) {
          Rows rows(classes, random_);
          for (std::size_t r = 0; r < kRows; r += 4) {
            const std::size_t c = (r * 7) % classes;
            rows.X(r, c) = strange;
            rows.T(r, c) = label;
          }
          Check(rows, Shape(classes, class_last, dtype), Spec(loss));
        }
      }
    });
  }
}

TEST_P(BackendEdgeTest, StrangeLabels) {
  for (Loss loss : losses()) {
    ForShapes(loss, [&](std::size_t classes, bool class_last, DType dtype) {
      for (double strange : {kNan, kInf, -kInf, 1.5, -0.25}) {
        Rows rows(classes, random_);
        for (std::size_t r = 1; r < kRows; r += 3) rows.T(r, (r * 5) % classes) = strange;
        Check(rows, Shape(classes, class_last, dtype), Spec(loss), std::isinf(strange));
      }
    });
  }
}

TEST_P(BackendEdgeTest, WholeRowsOfInfinity) {
  ForShapes(Loss::kSoftmaxCrossEntropy, [&](std::size_t classes, bool class_last, DType dtype) {
    Rows rows(classes, random_);
    for (std::size_t c = 0; c < classes; ++c) {
      rows.X(0, c) = -kInf;
      rows.X(5, c) = kInf;
      rows.X(36, c) = -kInf;
      rows.T(36, c) = 0;
      if (c > 0) {  // all classes but one do not exist
        rows.X(7, c) = -kInf;
        rows.T(7, c) = 0;
      }
    }
    for (Loss loss : losses()) {
      if (!IsElementwise(loss)) Check(rows, Shape(classes, class_last, dtype), Spec(loss));
    }
  });
}

TEST_P(BackendEdgeTest, AllLabelsZero) {
  for (Loss loss : losses()) {
    ForShapes(loss, [&](std::size_t classes, bool class_last, DType dtype) {
      Rows rows(classes, random_);
      for (std::size_t c = 0; c < classes; ++c) rows.T(3, c) = rows.T(20, c) = 0;
      Check(rows, Shape(classes, class_last, dtype), Spec(loss));
      LossSpec renormalize = Spec(loss);
      if (!IsElementwise(loss)) renormalize.label_check = LabelCheck::kRenormalize;
      Check(rows, Shape(classes, class_last, dtype), renormalize);
    });
  }
}

TEST_P(BackendEdgeTest, SmoothingGivesAMissingClassAShare) {
  for (bool class_last : {true, false}) {
    Rows rows(9, random_);
    rows.X(4, 2) = -kInf;
    rows.T(4, 2) = 0;
    for (Loss loss : losses()) {
      LossSpec spec = Spec(loss);
      spec.label_smoothing = 0.1f;
      Check(rows, Shape(9, class_last), spec);
    }
  }
}

TEST_P(BackendEdgeTest, HugeLogits) {
  for (Loss loss : losses()) {
    for (double huge : {1e9, 1e20, 1e30}) {
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (std::size_t classes : {2u, 21u}) {
          for (bool class_last : {true, false}) {
            Rows rows(classes, random_);
            for (std::size_t r = 0; r < kRows; r += 2) {
              rows.X(r, r % classes) = huge;
              rows.X(r, (r + 1) % classes) = -huge;
            }
            Check(rows, Shape(classes, class_last, dtype), Spec(loss));
          }
        }
      }
    }
  }
}

// Masked and zero-weight rows may hold anything: the outputs are exactly 0 there.
TEST_P(BackendEdgeTest, RowsThatDoNotCountHideTheirContents) {
  for (Loss loss : losses()) {
    ForShapes(loss, [&](std::size_t classes, bool class_last, DType dtype) {
      Rows rows(classes, random_);
      for (std::size_t r = 0; r < kRows; r += 3) {
        for (std::size_t c = 0; c < classes; ++c) {
          rows.X(r, c) = c % 2 ? kNan : kInf;
          rows.T(r, c) = c % 3 ? kNan : -7;
        }
        if (r % 2) {
          rows.mask[r] = 0;
          rows.weight[r] = kNan;
        } else {
          rows.weight[r] = 0;
        }
      }
      const ScoreCase hidden = CaseOf(Shape(classes, class_last, dtype), Spec(loss), rows.x, rows.t,
                                      rows.mask, rows.weight);
      const ScoreOutcome outcome = ScoreAlone(backend(), hidden);
      ExpectMatches(hidden, outcome);
      const std::vector<double> gradient =
          ToRowOrder(hidden.plan.geometry, Decode(dtype, outcome.gradient));
      for (std::size_t r = 0; r < kRows; r += 3) {
        for (std::size_t c = 0; c < classes; ++c) EXPECT_EQ(gradient[r * classes + c], 0);
      }
      EXPECT_TRUE(std::isfinite(outcome.leaves[0].loss));
    });
  }
}

TEST_P(BackendEdgeTest, IgnoreValue) {
  for (double value : {-1.0, 0.0, kNan, 0.5, 255.0}) {
    for (Loss loss : losses()) {
      ForShapes(loss, [&](std::size_t classes, bool class_last, DType dtype) {
        Rows rows(classes, random_);
        for (std::size_t c = 0; c < classes; ++c) {
          rows.T(2, c) = rows.T(30, c) = value;   // whole rows
          rows.X(30, c) = kNan;                   // whatever they hold
          if (c % 2 == 0) rows.T(11, c) = value;  // parts of a row
        }
        LossSpec spec = Spec(loss);
        spec.normalizer = Normalizer::kWeighted;
        spec.ignore_value = value;
        Check(rows, Shape(classes, class_last, dtype), spec);
      });
    }
  }
}

TEST_P(BackendEdgeTest, ClassIds) {
  for (DType id_dtype : {DType::kI32, DType::kI64}) {
    for (Loss loss : losses()) {
      for (bool class_last : {true, false}) {
        Rows rows(6, random_);
        std::vector<double> ids(kRows);
        for (std::size_t r = 0; r < kRows; ++r) ids[r] = static_cast<double>(r % 6);
        ItemShape item = Shape(6, class_last);
        item.label = {.kind = LabelKind::kClassId, .dtype = id_dtype};
        LossSpec spec = Spec(loss);
        const auto run = [&] {
          const ScoreCase c = CaseOf(item, spec, rows.x, ids, rows.mask, rows.weight);
          return ScoreAlone(backend(), c);
        };
        const auto bad = [](const char* message) {
          return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message));
        };
        ids[17] = 6;
        EXPECT_THAT(run().status, bad("label: class ids must be in [0, 6); row 17 was 6"));
        ids[17] = -100;
        EXPECT_THAT(run().status, bad("row 17 was -100"));
        ids[17] = id_dtype == DType::kI32 ? -2147483648.0 : 0x1p62;
        EXPECT_FALSE(run().status.ok());
        rows.weight[17] = 0;  // still an id that does not exist
        EXPECT_FALSE(run().status.ok());
        rows.mask[17] = 0;
        EXPECT_THAT(run().status, IsOk());
        rows.mask[17] = 1;
        rows.weight[17] = 1;
        ids[17] = -100;
        rows.X(17, 1) = kNan;
        spec.ignore_index = -100;
        const ScoreCase c = CaseOf(item, spec, rows.x, ids, rows.mask, rows.weight);
        ExpectMatches(c, ScoreAlone(backend(), c));
        spec.ignore_index = 3;  // an id that exists may be ignored too
        ids[17] = 3;
        const ScoreCase d = CaseOf(item, spec, rows.x, ids, rows.mask, rows.weight);
        ExpectMatches(d, ScoreAlone(backend(), d));
      }
    }
  }
}

TEST_P(BackendEdgeTest, RowWeightsAreFiniteAndNotNegative) {
  for (bool class_last : {true, false}) {
    for (double weight : {-1.0, kInf, kNan}) {
      Rows rows(3, random_);
      rows.weight[25] = weight;
      const ScoreCase c = CaseOf(Shape(3, class_last), Spec(Loss::kSoftmaxCrossEntropy), rows.x,
                                 rows.t, rows.mask, rows.weight);
      EXPECT_THAT(ScoreAlone(backend(), c).status,
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr("row_weight: must be finite and not negative; row 25")));
    }
  }
}

// A bad segment spoils nothing but itself.
TEST_P(BackendEdgeTest, ErrorsStayInTheirSegment) {
  Rows good(3, random_), bad(3, random_);
  bad.weight[0] = -1;
  const LossSpec spec = Spec(Loss::kSoftmaxCrossEntropy);
  const ScoreCase a = CaseOf(Shape(3, true), spec, good.x, good.t, good.mask, good.weight);
  const ScoreCase b = CaseOf(Shape(3, true), spec, bad.x, bad.t, bad.mask, bad.weight);
  InlineExecutor executor;
  const ScoreCase* const batch[] = {&a, &b, &a};
  const std::vector<ScoreOutcome> outcomes = ScoreBatch(backend(), executor, batch, {});
  EXPECT_FALSE(outcomes[1].status.ok());
  ExpectMatches(a, outcomes[0]);
  EXPECT_EQ(outcomes[2].BitDifference(outcomes[0]), "");
}

// Half-precision gradients saturate as IEEE says: to infinity, and to zero.
TEST_P(BackendEdgeTest, GradientsOverflowTheirDType) {
  for (bool class_last : {true, false}) {
    Rows rows(4, random_);
    for (std::size_t r = 0; r < kRows; ++r) rows.weight[r] = r % 2 ? 3e5 : 1e-9;
    ItemShape item = Shape(4, class_last);
    item.gradient = DType::kF16;
    for (Loss loss : losses()) {
      Check(rows, item, Spec(loss));
    }
  }
}

// Such a row is read and written in parts, and all of them are written again.
TEST_P(BackendEdgeTest, LongRowsThatAreScoredAgain) {
  constexpr std::int64_t kClasses = 3000;
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  ItemShape item;
  item.shape = {4, kClasses};
  item.class_axis = 1;
  item.gradient = DType::kF32;
  std::vector<double> x(4 * kClasses), t(4 * kClasses, 1.0 / kClasses);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  x[kClasses + 7] = std::nan("");
  t[2 * kClasses + 2999] = -1e15;
  const ScoreCase c = CaseOf(item, spec, x, t);
  ExpectMatches(c, ScoreAlone(backend(), c), /*any_nonfinite=*/true);
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendEdgeTest);

}  // namespace
}  // namespace softloss::testing
