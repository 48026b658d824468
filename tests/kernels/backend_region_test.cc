// Regional losses on every backend: images and classes, both activations, sums over many positions, and
// what is true of them by mathematics alone.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/kernels/family_specs.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/thread_executor.h"

namespace softloss::testing {
namespace {

using ::testing::HasSubstr;

struct Layout {
  std::vector<std::int64_t> shape;
  std::optional<int> class_axis;
  std::int64_t images;
};

// Images of one index of the first dimension, or one image.
const Layout kLayouts[] = {
    {{}, std::nullopt, 1},
    {{37}, std::nullopt, 1},
    {{5, 300}, std::nullopt, 5},
    {{2, 3, 70}, std::nullopt, 2},
    {{2, 9000}, std::nullopt, 2},
    {{90, 7}, 1, 1},
    {{3, 7, 50}, 1, 3},
    {{2, 21, 33, 17}, 1, 2},
    {{2, 33, 17, 21}, -1, 2},
    {{4, 3, 5, 6}, 0, 1},
    {{6, 2, 1}, 1, 1},
    {{1, 4, 700}, 1, 1},
    {{2, 3, 40, 200}, 1, 2},
    {{2, 1, 60}, 1, 2},
    {{3, 300, 20}, 1, 3},
    {{2, 5000, 3}, 1, 2},
    {{2, 40, 40, 130}, -1, 2},
};

std::vector<Loss> Regional() {
  std::vector<Loss> found;
  for (Loss loss : AllLosses()) {
    if (IsRegional(loss)) found.push_back(loss);
  }
  return found;
}

ItemShape Item(const Layout& layout) {
  ItemShape item;
  item.shape = layout.shape;
  item.class_axis = layout.class_axis;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  return item;
}

// f64 throughout, so that nothing is lost to rounding.
ItemShape Wide(const Layout& layout) {
  ItemShape item = Item(layout);
  item.prediction = item.label.dtype = DType::kF64;
  item.gradient = DType::kF64;
  return item;
}

class BackendRegionTest : public BackendTest {
 protected:
  bool Serves() {
    ScoreKey key{.loss = Loss::kSoftDice};
    key.activation = Activation::kSigmoid;
    return backend().Supports(key).ok();
  }
  void SetUp() override {
    BackendTest::SetUp();
    if (!Serves()) GTEST_SKIP() << "the backend serves no regional loss";
  }

  // Against the oracle, and the same bits in pieces, and by more threads.
  void Check(const ScoreCase& c) {
    const ScoreOutcome outcome = ScoreAlone(backend(), c);
    ExpectMatches(c, outcome);
    const ScoreCase* const one[] = {&c};
    for (std::int64_t leaves : {0, 1}) {
      const ScoreLayout layout{.chunk_leaves = leaves, .pieces = {.max_size = 777, .misalign = 3}};
      EXPECT_EQ(ScoreBatch(backend(), threads_, one, layout)[0].BitDifference(outcome), "")
          << c.Describe();
    }
    ++checked_;
  }

  struct Scored {
    std::vector<double> loss, gradient;
  };
  Scored Score(const ItemShape& item, const LossSpec& spec, const std::vector<double>& x,
               const std::vector<double>& t) {
    const ScoreOutcome outcome = ScoreAlone(backend(), CaseOf(item, spec, x, t));
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    return {Decode(DType::kF64, outcome.row_loss), Decode(DType::kF64, outcome.gradient)};
  }

  std::vector<double> Draw(std::size_t n) {
    std::vector<double> values(n);
    for (double& v : values) v = random_.Uniform();
    return values;
  }

  ThreadExecutor threads_{3};
  Random random_{4711};
  int checked_ = 0;
};

LossSpec SpecOf(Loss loss, Activation activation = Activation::kDefault) {
  LossSpec spec;
  spec.loss = loss;
  spec.activation = activation;
  return spec;
}

LossSpec Probabilities(Loss loss) {
  LossSpec spec = SpecOf(loss, Activation::kSigmoid);
  spec.prediction_kind = PredictionKind::kProbabilities;
  return spec;
}

TEST_P(BackendRegionTest, EveryLayoutOptionAndLabel) {
  for (Loss loss : Regional()) {
    for (const Layout& layout : kLayouts) {
      for (int n = 0; n < (GetParam() == "reference" ? 1 : 12); ++n) {
        const std::int64_t classes =
            layout.class_axis
                ? layout
                      .shape[*layout.class_axis < 0 ? layout.shape.size() - 1
                                                    : static_cast<std::size_t>(*layout.class_axis)]
                : 1;
        LossSpec spec = SpecOf(loss);
        if (layout.class_axis) spec.activation = static_cast<Activation>(random_.Int(0, 3));
        const bool exclusive = layout.class_axis && spec.activation != Activation::kSigmoid;
        ItemShape item = Item(layout);
        const DType floats[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};
        item.prediction = floats[n % 4];
        item.gradient = floats[random_.Int(0, 4)];
        if (random_.Chance(0.2)) item.gradient.reset();
        item.label.dtype = static_cast<DType>(random_.Int(1, 6));
        if (item.label.dtype == DType::kU8 && exclusive && random_.Chance(0.5)) {
          item.label.scale = LabelScale::kRowSum;
        }
        if (layout.class_axis && random_.Chance(0.25)) {
          item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI32};
          if (random_.Chance(0.5)) spec.ignore_index = 0;
        } else if (random_.Chance(0.25)) {
          spec.ignore_value = item.label.dtype == DType::kU8 ? 0 : 0.5;
        }
        item.has_mask = random_.Chance(0.4);
        item.has_row_weight = random_.Chance(0.4);
        spec.normalizer = Normalizer::kWeighted;
        spec.batch = random_.Chance(0.3);
        if (random_.Chance(0.3)) spec.label_smoothing = 0.1f;
        if (random_.Chance(0.3)) spec.class_weight = RandomWeights(classes, random_);
        if (random_.Chance(0.3)) spec.class_mask = RandomMask(classes, random_);
        if (exclusive && random_.Chance(0.3)) spec.label_check = LabelCheck::kRenormalize;
        if (random_.Chance(0.3)) spec.prediction_kind = PredictionKind::kProbabilities;
        if (random_.Chance(0.5)) spec.smooth = random_.Chance(0.5) ? 0 : 1;
        const ScoreCase c = RandomCase(
            item, spec, {.labels = exclusive ? LabelStyle::kNormalized : LabelStyle::kUniform},
            random_);
        EXPECT_EQ(c.plan.geometry.rows() / c.plan.leaf_rows, spec.batch ? 1 : layout.images);
        Check(c);
        if (HasFailure()) {
          ADD_FAILURE() << DescribeParameters(spec) << " activation "
                        << static_cast<int>(spec.activation);
          return;
        }
      }
    }
  }
  EXPECT_GT(checked_, 0);
}

TEST_P(BackendRegionTest, StrangeValuesOfElements) {
  for (Loss loss : Regional()) {
    for (double strange : {HUGE_VAL, -HUGE_VAL, std::nan(""), 1e30, -90.0}) {
      for (bool of_label : {false, true}) {
        if (of_label && std::isinf(strange)) continue;  // only promise to be non-finite
        for (PredictionKind kind : {PredictionKind::kLogits, PredictionKind::kProbabilities}) {
          for (const Layout& layout : {Layout{{2, 90}, std::nullopt, 2}, Layout{{2, 5, 40}, 1, 2},
                                       Layout{{60, 3}, 1, 1}}) {
            LossSpec spec = SpecOf(loss, Activation::kSigmoid);
            spec.prediction_kind = kind;
            ItemShape item = Item(layout);
            item.has_row_weight = true;
            ScoreCase c = RandomCase(item, spec, {}, random_);
            Bytes& bytes = of_label ? c.label : c.prediction;
            std::vector<double> values = Decode(DType::kF32, bytes);
            for (std::size_t i = 3; i < values.size(); i += 61) values[i] = strange;
            bytes = Encode(DType::kF32, values);
            ExpectMatches(c, ScoreAlone(backend(), c));
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// A loss is of the label alone where the prediction is the label, and nowhere else 0: product Dice is
// least at certain answers instead.
TEST_P(BackendRegionTest, ZeroIfAndOnlyIfThePredictionIsTheLabel) {
  const Layout layout{{3, 200}, std::nullopt, 3};
  for (Loss loss : Regional()) {
    for (float smooth : {0.0f, 1e-5f, 1.0f}) {
      LossSpec spec = Probabilities(loss);
      spec.smooth = smooth;
      for (int trial = 0; trial < 10; ++trial) {
        const std::vector<double> t = Draw(600);
        for (double v : Score(Wide(layout), spec, t, t).loss) EXPECT_EQ(v, 0);
        std::vector<double> x = t;
        x[250] = std::nextafter(x[250], 2);
        const std::vector<double> off = Score(Wide(layout), spec, x, t).loss;
        EXPECT_EQ(off[0], 0);
        EXPECT_GT(off[1], 0);  // an ulp of one position of 200
        EXPECT_LT(off[1], 1e-17);
        for (double v : Score(Wide(layout), spec, Draw(600), t).loss) {
          EXPECT_GT(v, 0.01);
          EXPECT_LT(v, 1);
        }
      }
      // t = 0.5 everywhere: product Dice would give 0.5 here, and less for s = 1.
      const std::vector<double> half(600, 0.5);
      EXPECT_EQ(Score(Wide(layout), spec, half, half).loss[0], 0);
      EXPECT_NEAR(Score(Wide(layout), spec, std::vector<double>(600, 1), half).loss[0],
                  loss == Loss::kSoftDice ? 100 / (300 + smooth) : 1.0 / 3, 1e-2);
    }
  }
}

// Around the label the loss grows with the distance, on both sides: the gradient points away from it.
TEST_P(BackendRegionTest, TheGradientLeadsToTheLabel) {
  const Layout layout{{1, 64}, std::nullopt, 1};
  for (Loss loss : Regional()) {
    const std::vector<double> t = Draw(64);
    std::vector<double> x = Draw(64);
    const Scored scored = Score(Wide(layout), Probabilities(loss), x, t);
    for (std::size_t i = 0; i < 64; ++i) {
      EXPECT_EQ(std::signbit(scored.gradient[i]), x[i] < t[i]) << i;
    }
    // Small steps against it end at the label.
    double last = scored.loss[0];
    for (int step = 0; step < 200; ++step) {
      const Scored at = Score(Wide(layout), Probabilities(loss), x, t);
      EXPECT_LE(at.loss[0], last);
      last = at.loss[0];
      for (std::size_t i = 0; i < 64; ++i) {
        x[i] = std::clamp(
            x[i] - std::copysign(std::min(0.02, std::fabs(x[i] - t[i])), at.gradient[i]), 0.0, 1.0);
      }
    }
    EXPECT_LT(last, 1e-12);
  }
}

// sgn(0) = 0: the mean of the slopes of both sides.
TEST_P(BackendRegionTest, AtTheLabelTheSlopeIsTheMean) {
  const Layout layout{{1, 4}, std::nullopt, 1};
  LossSpec spec = Probabilities(Loss::kSoftDice);
  spec.smooth = 0;
  // both 1.25, over 0.25, under 0.5: A = 0.375, D = 1.625.
  const std::vector<double> x = {0.5, 0.75, 0.25, 0.0}, t = {0.5, 0.5, 0.5, 0.25};
  const double above = 0.5 * 1.25 / (1.625 * 1.625);
  const double below = -(0.5 * 1.25 + 0.375) / (1.625 * 1.625);
  const Scored scored = Score(Wide(layout), spec, x, t);
  EXPECT_NEAR(scored.loss[0], 1 - 2 * 1.25 / (1.5 + 1.75), 1e-15);
  EXPECT_NEAR(scored.gradient[0], (above + below) / 2, 1e-15);
  EXPECT_NEAR(scored.gradient[1], above, 1e-15);
  EXPECT_NEAR(scored.gradient[2], below, 1e-15);
  EXPECT_NEAR(scored.gradient[3], below, 1e-15);
}

// Hard labels and hard answers: 2|A∩B|/(|A|+|B|).
TEST_P(BackendRegionTest, HardLabelsGiveTheClassicalDice) {
  const Layout layout{{2, 3, 150}, 1, 2};
  LossSpec spec = Probabilities(Loss::kSoftDice);
  spec.smooth = 0;
  const ItemShape item = Wide(layout);
  std::vector<double> x(900), t(900), dice;
  for (std::size_t i = 0; i < 900; ++i) x[i] = random_.Chance(0.3), t[i] = random_.Chance(0.4);
  for (std::size_t image = 0; image < 2; ++image) {
    for (std::size_t c = 0; c < 3; ++c) {
      double both = 0, size = 0;
      for (std::size_t r = 0; r < 150; ++r) {
        const std::size_t i = (image * 150 + r) * 3 + c;  // row order
        both += x[i] * t[i];
        size += x[i] + t[i];
      }
      dice.push_back(1 - 2 * both / size);
    }
  }
  const std::vector<double> loss = Score(item, spec, x, t).loss;
  for (std::size_t i = 0; i < dice.size(); ++i) EXPECT_NEAR(loss[i], dice[i], 1e-15);
}

TEST_P(BackendRegionTest, PositionsMayBePermuted) {
  const Layout layout{{2, 500}, std::nullopt, 2};
  for (Loss loss : Regional()) {
    const std::vector<double> x = Draw(1000), t = Draw(1000);
    std::vector<std::size_t> order(1000);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = 500; i-- > 1;) {
      std::swap(order[i], order[static_cast<std::size_t>(random_.Int(0, i + 1))]);
    }
    std::vector<double> px, pt;
    for (std::size_t i : order) px.push_back(x[i]), pt.push_back(t[i]);
    const Scored a = Score(Wide(layout), Probabilities(loss), x, t);
    const Scored b = Score(Wide(layout), Probabilities(loss), px, pt);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(a.loss[i], b.loss[i], 1e-15);
    for (std::size_t i = 0; i < 1000; ++i) {
      EXPECT_NEAR(a.gradient[order[i]], b.gradient[i], 1e-15) << i;
    }
  }
}

TEST_P(BackendRegionTest, NothingThereAndNothingPredictedIsNoLoss) {
  const Layout layout{{1, 20}, std::nullopt, 1};
  for (Loss loss : Regional()) {
    for (float smooth : {0.0f, 1e-5f, 1.0f}) {
      LossSpec spec = Probabilities(loss);
      spec.smooth = smooth;
      const std::vector<double> zero(20);
      const Scored scored = Score(Wide(layout), spec, zero, zero);
      EXPECT_EQ(scored.loss[0], 0);
      for (double g : scored.gradient) EXPECT_TRUE(std::isfinite(g));
    }
  }
}

// Many positions: sums of 32-bit floats would be off by far more.
TEST_P(BackendRegionTest, SumsOverManyPositionsKeepTheirDigits) {
  constexpr std::int64_t kMany = 3'000'001;
  const Layout layout{{1, kMany}, std::nullopt, 1};
  if (GetParam() == "reference") GTEST_SKIP() << "slow, and exact";
  LossSpec spec = Probabilities(Loss::kSoftDice);
  spec.smooth = 0;
  ItemShape item = Item(layout);
  item.gradient.reset();
  // 0.3f and 0.1f as they are in 32 bits.
  const double s = 0.3f, t = 0.1f;
  const ScoreCase c =
      CaseOf(item, spec, std::vector<double>(kMany, s), std::vector<double>(kMany, t));
  const ScoreOutcome outcome = ScoreAlone(backend(), c);
  EXPECT_NEAR(outcome.leaves[0].loss / (1 - 2 * t / (s + t)), 1, 1e-7);
  const ScoreCase* const one[] = {&c};
  EXPECT_EQ(ScoreBatch(backend(), threads_, one, {})[0].BitDifference(outcome), "");
}

TEST_P(BackendRegionTest, WhatIsWrongIsNamed) {
  const Layout layout{{2, 3, 50}, 1, 2};
  ItemShape item = Item(layout);
  item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
  std::vector<double> x(300), ids(100), weight(100, 1);
  ids[77] = 3;
  const LossSpec spec = SpecOf(Loss::kSoftDice);
  EXPECT_THAT(ScoreAlone(backend(), CaseOf(item, spec, x, ids)).status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("label: class ids must be in [0, 3); row 77 was 3")));
  ids[77] = 0;
  weight[99] = -1;
  EXPECT_THAT(ScoreAlone(backend(), CaseOf(item, spec, x, ids, {}, weight)).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row_weight")));
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendRegionTest);

}  // namespace
}  // namespace softloss::testing
