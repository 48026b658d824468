// Every backend against the long double oracle, on ordinary inputs.
#include <cmath>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};

// [rows, classes], or its transpose, so that classes come first and a chunk is a tile.
ItemShape Shape(std::int64_t rows, std::int64_t classes, bool class_last) {
  ItemShape item;
  if (class_last) {
    item.shape = {rows, classes};
    item.class_axis = 1;
  } else {
    item.shape = {classes, rows};
    item.class_axis = 0;
  }
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  return item;
}

std::vector<LabelFormat> LabelFormats(Loss loss) {
  std::vector<LabelFormat> formats;
  for (DType dtype : kFloats) formats.push_back({.dtype = dtype});
  formats.push_back({.dtype = DType::kU8});
  if (!IsElementwise(loss)) {
    formats.push_back({.dtype = DType::kU8, .scale = LabelScale::kRowSum});
  }
  formats.push_back({.kind = LabelKind::kClassId, .dtype = DType::kI32});
  formats.push_back({.kind = LabelKind::kClassId, .dtype = DType::kI64});
  return formats;
}

class BackendConformanceTest : public BackendTest {
 protected:
  void Check(const ItemShape& item, const LossSpec& spec, const RandomStyle& style = {},
             const ScoreLayout& layout = {}) {
    const ScoreCase c = RandomCase(item, spec, style, random_);
    if (!backend().Supports(c.plan.key).ok()) return;
    ExpectMatches(c, ScoreAlone(backend(), c, layout));
    ++checked_;
  }
  void TearDown() override { EXPECT_GT(checked_, 0) << "nothing was compared"; }

  Random random_{20240601};
  int checked_ = 0;
};

TEST_P(BackendConformanceTest, EveryDTypeLabelLayoutAndGradient) {
  std::vector<std::optional<DType>> gradients = {std::nullopt};
  gradients.insert(gradients.end(), std::begin(kFloats), std::end(kFloats));
  for (Loss loss : losses()) {
    LossSpec spec;
    spec.loss = loss;
    spec.normalizer = Normalizer::kWeighted;
    for (const LabelFormat& label : LabelFormats(loss)) {
      for (DType prediction : kFloats) {
        for (const std::optional<DType>& gradient : gradients) {
          for (bool class_last : {true, false}) {
            ItemShape item = Shape(37, 21, class_last);
            item.prediction = prediction;
            item.label = label;
            item.gradient = gradient;
            item.has_mask = random_.Chance(0.5);
            item.has_row_weight = random_.Chance(0.5);
            item.want_row_loss = random_.Chance(0.7);
            Check(item, spec, {}, {.pieces = {.misalign = 1}});
          }
        }
      }
    }
    if (HasFailure()) return;
  }
}

TEST_P(BackendConformanceTest, SizesAroundVectorsAndLeaves) {
  for (std::int64_t classes :
       {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 21, 31, 33, 64, 65, 100, 1000, 5000}) {
    for (std::int64_t rows : {1, 2, 7, 8, 15, 16, 17, 31, 63, 65, 255, 256, 257, 513}) {
      for (Loss loss : losses()) {
        const bool own = loss == Loss::kSigmoidCrossEntropy || loss == Loss::kSoftmaxCrossEntropy;
        if (rows * classes > (own ? 40000 : 1500)) continue;
        LossSpec spec;
        spec.loss = loss;
        for (bool class_last : {true, false}) {
          ItemShape item = Shape(rows, classes, class_last);
          if (rows % 2) item.prediction = DType::kF64;
          if (rows % 4 == 0) item.label.dtype = DType::kF16;
          Check(item, spec);
        }
      }
    }
    if (HasFailure()) return;
  }
}

TEST_P(BackendConformanceTest, OptionsInAllCombinations) {
  for (int options = 0; options < 128; ++options) {
    const auto has = [&](int bit) { return ((options >> bit) & 1) != 0; };
    for (Loss loss : losses()) {
      const std::int64_t classes = has(0) ? 13 : 70;
      ItemShape item = Shape(41, classes, has(1));
      LossSpec spec;
      spec.loss = loss;
      spec.normalizer = Normalizer::kWeighted;
      item.has_mask = has(2);
      item.has_row_weight = has(3);
      if (has(4)) spec.label_smoothing = 0.1f;
      if (has(5)) {
        for (std::int64_t c = 0; c < classes; ++c) {
          spec.class_weight.push_back(c % 5 ? static_cast<float>(2 * random_.Uniform()) : 0);
        }
      }
      if (has(6)) {
        if (loss == Loss::kSigmoidCrossEntropy) {
          spec.pos_weight.assign(options % 3 ? static_cast<std::size_t>(classes) : 1, 0.5f);
          for (float& v : spec.pos_weight) v += static_cast<float>(3 * random_.Uniform());
        } else if (!IsElementwise(loss)) {
          spec.label_check = LabelCheck::kRenormalize;
        }
      }
      for (LabelStyle labels : {LabelStyle::kNormalized, LabelStyle::kUniform}) {
        Check(item, spec, {.labels = labels});
      }
      item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
      Check(item, spec);
    }
    if (HasFailure()) return;
  }
}

TEST_P(BackendConformanceTest, LabelsAsWritten) {
  for (Loss loss : losses()) {
    LossSpec spec;
    spec.loss = loss;
    for (LabelStyle labels : {LabelStyle::kWild, LabelStyle::kUniform, LabelStyle::kOneHot}) {
      for (DType prediction : {DType::kF32, DType::kF64}) {
        for (bool class_last : {true, false}) {
          for (std::int64_t classes : {2, 10, 300}) {
            ItemShape item = Shape(50, classes, class_last);
            item.prediction = prediction;
            Check(item, spec, {.labels = labels});
          }
        }
      }
    }
  }
}

// One-hot rows and sigmoids promise relative accuracy: losses down to 1e-30.
TEST_P(BackendConformanceTest, SmallLossesKeepTheirDigits) {
  for (Loss loss : losses()) {
    LossSpec spec;
    spec.loss = loss;
    for (double deviation : {0.01, 10.0, 30.0}) {
      for (bool class_last : {true, false}) {
        for (std::int64_t classes : {1, 2, 21, 500}) {
          Check(Shape(60, classes, class_last), spec,
                {.labels = LabelStyle::kOneHot, .logit_deviation = deviation});
        }
      }
    }
  }
}

TEST_P(BackendConformanceTest, LogitsFarFromZero) {
  for (Loss loss : losses()) {
    LossSpec spec;
    spec.loss = loss;
    for (double deviation : {1e3, 1e6, 1e12, 1e25}) {
      for (DType prediction : {DType::kF32, DType::kF64, DType::kBF16}) {
        ItemShape item = Shape(40, 17, true);
        item.prediction = prediction;
        Check(item, spec, {.logit_deviation = deviation});
        item = Shape(40, 17, false);
        item.prediction = prediction;
        Check(item, spec, {.logit_deviation = deviation});
      }
    }
  }
}

// x = 20, t = 1: ln(1 + e^-20), which 1 - s loses altogether.
TEST_P(BackendConformanceTest, LossOfACertainAnswerIsNotZero) {
  ItemShape item;
  item.shape = {3};
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  const ScoreCase c = CaseOf(item, {}, {{20, -20, 60}}, {{1, 0, 1}});
  const ScoreOutcome outcome = ScoreAlone(backend(), c);
  const std::vector<double> loss = Decode(DType::kF32, outcome.row_loss);
  EXPECT_NEAR(loss[0] / 2.0611536203e-9, 1, 1e-6);
  EXPECT_NEAR(loss[1] / 2.0611536203e-9, 1, 1e-6);
  EXPECT_NEAR(loss[2] / std::exp(-60), 1, 1e-6);
  ++checked_;
}

TEST_P(BackendConformanceTest, CertainAnswersAmongManyClassesKeepTheirDigits) {
  for (const std::int64_t classes : {3, 65, 500, 3000}) {
    for (const bool class_last : {true, false}) {
      for (const double margin : {12.0, 20.0, 40.0}) {
        ItemShape item = Shape(1, classes, class_last);
        item.want_row_loss = true;
        LossSpec spec;
        spec.loss = Loss::kSoftmaxCrossEntropy;
        std::vector<double> logits(classes, 0);
        std::vector<double> labels(classes, 0);
        logits[classes / 2] = margin;
        labels[classes / 2] = 1;
        const ScoreOutcome outcome = ScoreAlone(backend(), CaseOf(item, spec, logits, labels));
        const double loss = Decode(DType::kF32, outcome.row_loss)[0];
        const double want = std::log1p(static_cast<double>(classes - 1) * std::exp(-margin));
        EXPECT_NEAR(loss / want, 1, 1e-6) << classes << " classes, margin " << margin;
        ++checked_;
      }
    }
  }
}

TEST_P(BackendConformanceTest, TensorFlowsExample) {
  ItemShape item = Shape(1, 4, true);
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  const ScoreCase c = CaseOf(item, spec, {{1, 2, 3, 4}}, {{0, 0.5, 0.5, 0}});
  const ScoreOutcome outcome = ScoreAlone(backend(), c);
  EXPECT_NEAR(outcome.leaves[0].loss, 1.9401, 1e-4);
  const std::vector<double> gradient = Decode(DType::kF32, outcome.gradient);
  const double want[] = {0.0321, -0.4129, -0.2632, 0.6439};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(gradient[i], want[i], 1e-4);
  ++checked_;
}

TEST_P(BackendConformanceTest, OneHotRowsEqualClassIds) {
  for (Loss loss : losses()) {
    LossSpec spec;
    spec.loss = loss;
    for (bool class_last : {true, false}) {
      const ItemShape dense = Shape(70, 19, class_last);
      ItemShape ids = dense;
      ids.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
      const ScoreCase c = RandomCase(ids, spec, {}, random_);
      std::vector<double> one_hot(70 * 19);
      const std::vector<double> id = Decode(DType::kI64, c.label);
      for (std::size_t r = 0; r < 70; ++r) one_hot[r * 19 + static_cast<std::size_t>(id[r])] = 1;
      const ScoreCase d = CaseOf(
          dense, spec, ToRowOrder(c.plan.geometry, Decode(DType::kF32, c.prediction)), one_hot);
      const ScoreOutcome by_id = ScoreAlone(backend(), c);
      const ScoreOutcome by_row = ScoreAlone(backend(), d);
      EXPECT_EQ(by_id.tally, by_row.tally);
      ExpectMatches(d, by_id);
      ExpectMatches(c, by_row);
      ++checked_;
    }
  }
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendConformanceTest);

}  // namespace
}  // namespace softloss::testing
