// The backend "cpu" on every SIMD target that this machine can run, not only on its best one.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/backends.h"
#include "tests/kernels/family_specs.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

class CpuTargetsTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  // 0 is the machine's own choice.
  static void Choose(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  // Against the oracle, and the same bits in pieces and chunks.
  void Check(const ItemShape& item, const LossSpec& spec, const RandomStyle& style = {}) {
    const ScoreCase c = RandomCase(item, spec, style, random_);
    const ScoreOutcome outcome = ScoreAlone(*backend_, c);
    ExpectMatches(c, outcome);
    const ScoreOutcome pieces =
        ScoreAlone(*backend_, c, {.chunk_leaves = 1, .pieces = {.max_size = 333, .misalign = 3}});
    EXPECT_EQ(pieces.BitDifference(outcome), "") << c.Describe();
  }

  std::unique_ptr<Backend> backend_ = MakeCpuBackend();
  Random random_{9};
};

ItemShape Shape(std::int64_t rows, std::int64_t classes, bool class_last) {
  ItemShape item;
  item.shape = class_last ? std::vector{rows, classes} : std::vector{classes, rows};
  item.class_axis = class_last ? 1 : 0;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  return item;
}

TEST_P(CpuTargetsTest, NumericsIdNamesTheTarget) {
  std::string name = hwy::TargetName(GetParam());
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  EXPECT_EQ(backend_->numerics_id().rfind("cpu-" + name + "-", 0), 0u) << backend_->numerics_id();
}

TEST_P(CpuTargetsTest, SizesAndLayouts) {
  for (std::int64_t classes :
       {1, 2, 3, 4, 5, 8, 10, 16, 21, 63, 64, 65, 71, 80, 131, 257, 1000, 2100}) {
    for (std::int64_t rows : {1, 5, 64, 300}) {
      if (rows * classes > 40000) continue;
      for (Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
        for (bool class_last : {true, false}) {
          LossSpec spec;
          spec.loss = loss;
          ItemShape item = Shape(rows, classes, class_last);
          Check(item, spec,
                {.labels = classes % 2 ? LabelStyle::kOneHot : LabelStyle::kNormalized,
                 .logit_deviation = 12});
          item.has_mask = item.has_row_weight = true;
          item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI32};
          Check(item, spec);
        }
      }
    }
    if (HasFailure()) return;
  }
}

TEST_P(CpuTargetsTest, DTypesAndOptions) {
  for (DType prediction : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (DType label : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kU8}) {
      for (DType gradient : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
        for (std::int64_t classes : {6, 99}) {
          for (Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
            ItemShape item = Shape(33, classes, classes == 6);
            item.prediction = prediction;
            item.label.dtype = label;
            item.gradient = gradient;
            LossSpec spec;
            spec.loss = loss;
            spec.normalizer = Normalizer::kWeighted;
            Check(item, spec, {.labels = LabelStyle::kUniform});
            spec.label_smoothing = 0.125f;
            spec.class_weight.assign(static_cast<std::size_t>(classes), 0.75f);
            item.has_row_weight = true;
            Check(item, spec, {.labels = LabelStyle::kUniform});
          }
        }
      }
      if (HasFailure()) return;
    }
  }
}

// Several classes may have the largest logit, and as many rows beside them as have none.
TEST_P(CpuTargetsTest, EqualLogits) {
  for (std::int64_t classes : {2, 9, 40, 63, 64, 131, 1000, 1500}) {
    const std::int64_t rows = 21;
    std::vector<double> logits, labels;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < classes; ++c) {
        logits.push_back(static_cast<double>(random_.Int(0, 3)) - 40 * static_cast<double>(r % 3));
        labels.push_back(c == r % classes ? 1 : 0);
      }
    }
    const auto at = [&](std::int64_t r, std::int64_t c) -> double& {
      return logits[static_cast<std::size_t>(r * classes + c)];
    };
    // As many maxima as rows: none in a row, two in another, one in each of the others.
    for (std::int64_t c = 0; c < classes; ++c) at(3, c) = std::numeric_limits<double>::quiet_NaN();
    for (std::int64_t r : {0, 1, 2, 4, 5, 6, 7}) {
      for (std::int64_t c = 0; c < classes; ++c) at(r, c) = c == 0 || (r == 5 && c == 1) ? 9 : 0.5;
    }
    const ItemShape item = Shape(rows, classes, true);
    LossSpec spec;
    spec.loss = Loss::kSoftmaxCrossEntropy;
    const ScoreCase c = CaseOf(item, spec, logits, labels);
    ExpectMatches(c, ScoreAlone(*backend_, c));
    ItemShape ids = item;
    ids.label = {.kind = LabelKind::kClassId, .dtype = DType::kI32};
    std::vector<double> id(static_cast<std::size_t>(rows));
    for (std::size_t r = 0; r < id.size(); ++r)
      id[r] = static_cast<double>(r % static_cast<std::size_t>(classes));
    const ScoreCase by_id = CaseOf(ids, spec, logits, id);
    ExpectMatches(by_id, ScoreAlone(*backend_, by_id));
    if (HasFailure()) return;
  }
}

// Every loss with its parameters, and the options that change how a class or an element is predicted.
TEST_P(CpuTargetsTest, FamilyOfLosses) {
  for (const LossSpec& one : ParameterSpecs()) {
    for (std::int64_t classes : {1, 7, 16, 33, 50, 90}) {
      for (bool class_last : {true, false}) {
        ItemShape item = FamilyItem(21, classes, class_last);
        item.prediction = random_.Chance(0.3) ? DType::kF64 : DType::kF32;
        item.has_row_weight = random_.Chance(0.3);
        Check(item, one, {.labels = class_last ? LabelStyle::kNormalized : LabelStyle::kOneHot});
        LossSpec spec = one;
        if (random_.Chance(0.5)) spec.class_mask = RandomMask(classes, random_);
        if (random_.Chance(0.5)) spec.class_weight = RandomWeights(classes, random_);
        if (random_.Chance(0.5)) spec.label_smoothing = 0.05f;
        if (random_.Chance(0.5)) {
          spec.prediction_kind = PredictionKind::kProbabilities;
          spec.temperature.reset();
          spec.z_loss.reset();
        }
        Check(item, spec);
      }
    }
    if (HasFailure()) return;
  }
}

std::string TargetLabel(const ::testing::TestParamInfo<std::int64_t>& info) {
  return hwy::TargetName(info.param);
}

INSTANTIATE_TEST_SUITE_P(All, CpuTargetsTest,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()), TargetLabel);

}  // namespace
}  // namespace softloss::testing
