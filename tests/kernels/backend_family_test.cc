// Every backend on each loss that it serves, its parameters and its general options, against the
// long double oracle.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/kernels/family_specs.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

class BackendFamilyTest : public BackendTest {
 protected:
  bool Check(const ItemShape& item, const LossSpec& spec, const RandomStyle& style = {},
             const ScoreLayout& layout = {}) {
    const ScoreCase c = RandomCase(item, spec, style, random_);
    if (!backend().Supports(c.plan.key).ok()) return false;
    ExpectMatches(c, ScoreAlone(backend(), c, layout));
    if (HasFailure()) ADD_FAILURE() << DescribeParameters(spec);
    ++checked_;
    return true;
  }
  void TearDown() override {
    RecordProperty("cases", checked_);
    if (checked_ == 0) GTEST_SKIP() << "the backend serves none of these";
  }

  Random random_{20250817};
  int checked_ = 0;
};

TEST_P(BackendFamilyTest, SizesAroundVectors) {
  for (const LossSpec& spec : OneSpecEach()) {
    for (std::int64_t classes : {1, 2, 3, 8, 16, 17, 33, 64, 65, 300, 5000}) {
      for (std::int64_t rows : {1, 17, 300}) {
        if (rows * classes > 12000) continue;
        for (bool class_last : {true, false}) {
          for (DType prediction : {DType::kF32, DType::kF64}) {
            ItemShape item = FamilyItem(rows, classes, class_last);
            item.prediction = prediction;
            Check(item, spec);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(BackendFamilyTest, ParametersWithinTheirBounds) {
  for (const LossSpec& spec : ParameterSpecs()) {
    for (std::int64_t classes : {4, 21, 90}) {
      for (LabelStyle labels :
           {LabelStyle::kNormalized, LabelStyle::kOneHot, LabelStyle::kUniform}) {
        for (bool class_last : {true, false}) {
          ItemShape item = FamilyItem(33, classes, class_last);
          if (classes == 4) item.prediction = DType::kF64;
          Check(item, spec, {.labels = labels});
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(BackendFamilyTest, OptionsInAllCombinations) {
  for (const LossSpec& one : OneSpecEach()) {
    for (int options = 0; options < 64; ++options) {
      const auto has = [&](int bit) { return ((options >> bit) & 1) != 0; };
      for (std::int64_t classes : {13, 70}) {
        LossSpec spec = one;
        spec.normalizer = Normalizer::kWeighted;
        ItemShape item = FamilyItem(23, classes, random_.Chance(0.5));
        item.prediction = random_.Chance(0.3) ? DType::kF64 : DType::kF32;
        item.has_mask = random_.Chance(0.3);
        item.has_row_weight = random_.Chance(0.3);
        if (has(0)) spec.label_smoothing = 0.1f;
        if (has(1)) spec.class_weight = RandomWeights(classes, random_);
        if (has(2)) spec.class_mask = RandomMask(classes, random_);
        if (has(3)) {
          if (IsElementwise(spec.loss)) {
            if (spec.loss == Loss::kSigmoidCrossEntropy) spec.pos_weight = {2.5f};
          } else {
            spec.label_check = LabelCheck::kRenormalize;
          }
        }
        if (has(4)) {
          spec.prediction_kind = PredictionKind::kProbabilities;
          spec.temperature.reset();
        } else if (has(5) && TakesTemperature(spec.loss)) {
          spec.temperature = 2.5f;
          spec.z_loss = 0.01f;
        }
        for (LabelStyle labels : {LabelStyle::kNormalized, LabelStyle::kUniform}) {
          Check(item, spec, {.labels = labels});
        }
        item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
        Check(item, spec);
        if (HasFailure()) return;
      }
    }
  }
}

// What is left of the classes decides how they are worked on; labels may be of classes that are not.
TEST_P(BackendFamilyTest, MasksThatLeaveFewOrManyClasses) {
  for (const LossSpec& one : OneSpecEach()) {
    for (std::int64_t classes : {3, 40, 60, 1500}) {
      for (std::int64_t left : {1, 5, 17, 49, 70, 1100}) {
        if (left > classes) continue;
        for (bool class_last : {true, false}) {
          LossSpec spec = one;
          spec.normalizer = Normalizer::kWeighted;
          spec.class_mask.assign(static_cast<std::size_t>(classes), 0);
          for (std::int64_t i = 0; i < left; ++i) {
            spec.class_mask[static_cast<std::size_t>(i * classes / left)] = 1;
          }
          if (random_.Chance(0.5)) spec.class_weight = RandomWeights(classes, random_);
          ItemShape item = FamilyItem(classes > 100 ? 9 : 35, classes, class_last);
          Check(item, spec);
          item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI32};
          Check(item, spec);
          item.label = {.dtype = DType::kU8};
          if (!IsElementwise(spec.loss)) item.label.scale = LabelScale::kRowSum;
          item.prediction = DType::kBF16;
          item.gradient = DType::kF16;
          Check(item, spec, {}, {.pieces = {.max_size = 100, .misalign = 3}});
          if (HasFailure()) return;
        }
      }
    }
  }
}

// Classes that do not exist may hold anything.
TEST_P(BackendFamilyTest, MaskedClassesAreNotLookedAt) {
  for (const LossSpec& one : OneSpecEach()) {
    for (std::int64_t classes : {6, 80}) {
      for (bool class_last : {true, false}) {
        LossSpec spec = one;
        spec.class_mask = RandomMask(classes, random_);
        const ScoreCase c = RandomCase(FamilyItem(20, classes, class_last), spec, {}, random_);
        if (!backend().Supports(c.plan.key).ok()) continue;
        const Geometry& g = c.plan.geometry;
        std::vector<double> x = ToRowOrder(g, Decode(DType::kF32, c.prediction));
        std::vector<double> t = ToRowOrder(g, Decode(DType::kF32, c.label));
        for (std::size_t i = 0; i < x.size(); ++i) {
          if (spec.class_mask[i % static_cast<std::size_t>(classes)] != 0) continue;
          x[i] = i % 2 ? HUGE_VAL : std::nan("");
          t[i] = i % 3 ? -3 : std::nan("");
        }
        EXPECT_EQ(ScoreAlone(backend(), CaseOf(c.item, spec, x, t))
                      .BitDifference(ScoreAlone(backend(), c)),
                  "")
            << c.Describe();
        ++checked_;
      }
    }
  }
}

TEST_P(BackendFamilyTest, EveryDTypeAndLabel) {
  std::vector<LabelFormat> labels;
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kU8}) {
    labels.push_back({.dtype = dtype});
  }
  for (const LossSpec& spec : OneSpecEach()) {
    std::vector<LabelFormat> formats = labels;
    if (!IsElementwise(spec.loss)) {
      formats.push_back({.dtype = DType::kU8, .scale = LabelScale::kRowSum});
    }
    for (const LabelFormat& label : formats) {
      for (DType prediction : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
        for (DType gradient : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
          ItemShape item = FamilyItem(19, random_.Chance(0.5) ? 21 : 80, random_.Chance(0.5));
          item.prediction = prediction;
          item.label = label;
          item.gradient = gradient;
          item.has_row_weight = random_.Chance(0.5);
          Check(item, spec, {}, {.pieces = {.misalign = 1}});
          if (HasFailure()) return;
        }
        ItemShape item = FamilyItem(19, 70, true);
        item.prediction = prediction;
        item.label = label;
        item.gradient = std::nullopt;
        Check(item, spec);
      }
    }
  }
}

TEST_P(BackendFamilyTest, LogitsNearAndFar) {
  for (const LossSpec& one : OneSpecEach()) {
    for (float temperature : {0.3f, 1.0f, 4.0f}) {
      LossSpec spec = one;
      if (TakesTemperature(spec.loss)) spec.temperature = temperature;
      for (double deviation : {0.01, 10.0, 30.0, 80.0, 1e4, 1e12}) {
        for (LabelStyle labels : {LabelStyle::kNormalized, LabelStyle::kOneHot}) {
          for (std::int64_t classes : {1, 2, 21, 100}) {
            ItemShape item = FamilyItem(40, classes, random_.Chance(0.5));
            if (random_.Chance(0.3)) item.prediction = DType::kF64;
            Check(item, spec, {.labels = labels, .logit_deviation = deviation});
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// Certain answers, where exponentials reach the end of fp32's normal numbers and a small power does not.
TEST_P(BackendFamilyTest, MarginsWhereExponentialsUnderflow) {
  std::vector<LossSpec> specs = OneSpecEach();
  for (float gamma : {0.25f, 0.5f, 1.0f, 3.0f}) {
    specs.push_back({.loss = Loss::kExpectedFocal});
    specs.back().gamma = gamma;
  }
  for (const LossSpec& one : specs) {
    for (std::size_t classes : {3u, 40u, 90u}) {
      for (bool right : {true, false}) {
        const std::size_t rows = 60;
        std::vector<double> x(rows * classes), t(rows * classes);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < classes; ++c) {
            const double margin =
                c < 3 ? 80 + 0.5 * static_cast<double>(r) + 0.3 * static_cast<double>(c) : 300;
            x[r * classes + c] = c == 1 ? 0 : -margin;
          }
          t[r * classes + (right ? 1 : 2)] = 1;
        }
        const ItemShape item = FamilyItem(rows, static_cast<std::int64_t>(classes), true);
        const ScoreCase c = CaseOf(item, one, x, t);
        if (!backend().Supports(c.plan.key).ok()) continue;
        ExpectMatches(c, ScoreAlone(backend(), c));
        if (HasFailure()) ADD_FAILURE() << DescribeParameters(one);
        ++checked_;
        if (HasFailure()) return;
      }
    }
  }
}

// A large offset that all classes share must not cost digits.
TEST_P(BackendFamilyTest, LogitsWithACommonOffset) {
  for (const LossSpec& one : OneSpecEach()) {
    for (float temperature : {1.0f, 3.0f}) {
      LossSpec spec = one;
      if (TakesTemperature(spec.loss)) spec.temperature = temperature;
      for (double offset : {-1e4, 1e4, 1e6}) {
        for (std::int64_t classes : {5, 90}) {
          const ItemShape item = FamilyItem(20, classes, random_.Chance(0.5));
          ScoreCase c = RandomCase(item, spec, {.logit_deviation = 8}, random_);
          if (!backend().Supports(c.plan.key).ok()) continue;
          std::vector<double> x = Decode(DType::kF32, c.prediction);
          for (double& v : x) v += offset;
          c.prediction = Encode(DType::kF32, x);
          ExpectMatches(c, ScoreAlone(backend(), c));
          ++checked_;
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(BackendFamilyTest, LabelsAsWritten) {
  for (const LossSpec& spec : OneSpecEach()) {
    for (LabelStyle labels : {LabelStyle::kWild, LabelStyle::kUniform, LabelStyle::kOneHot}) {
      for (DType prediction : {DType::kF32, DType::kF64}) {
        for (std::int64_t classes : {2, 10, 100}) {
          ItemShape item = FamilyItem(30, classes, random_.Chance(0.5));
          item.prediction = prediction;
          Check(item, spec, {.labels = labels});
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(BackendFamilyTest, OneHotRowsEqualClassIds) {
  for (const LossSpec& spec : OneSpecEach()) {
    for (bool class_last : {true, false}) {
      for (std::size_t classes : {19u, 80u}) {
        const ItemShape dense = FamilyItem(30, static_cast<std::int64_t>(classes), class_last);
        ItemShape ids = dense;
        ids.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
        const ScoreCase c = RandomCase(ids, spec, {}, random_);
        if (!backend().Supports(c.plan.key).ok()) continue;
        std::vector<double> one_hot(30 * classes);
        const std::vector<double> id = Decode(DType::kI64, c.label);
        for (std::size_t r = 0; r < 30; ++r) {
          one_hot[r * classes + static_cast<std::size_t>(id[r])] = 1;
        }
        const ScoreCase d = CaseOf(
            dense, spec, ToRowOrder(c.plan.geometry, Decode(DType::kF32, c.prediction)), one_hot);
        const ScoreOutcome by_id = ScoreAlone(backend(), c);
        const ScoreOutcome by_row = ScoreAlone(backend(), d);
        EXPECT_EQ(by_id.tally, by_row.tally);
        ExpectMatches(d, by_id);
        ExpectMatches(c, by_row);
        ++checked_;
        if (HasFailure()) return;
      }
    }
  }
}

// The reference is what the others are compared with.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BackendFamilyTest);
INSTANTIATE_TEST_SUITE_P(All, BackendFamilyTest, ::testing::ValuesIn(FastBackends()), ParamName);

}  // namespace
}  // namespace softloss::testing
