// Every backend at the sizes where a kernel may change its way of working: rows of one element up to
// a million classes, tiles whose lines are and are not aligned, every pair of dtypes, and batches of
// unlike segments. Values against the reference's arithmetic.
#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

constexpr DType kF32 = DType::kF32;

// An emulated device is slow, and finds in few rows what it finds in many.
#ifdef SOFTLOSS_CUDA_EMULATION
constexpr std::int64_t kMostElements = 100000;
std::int64_t Rows(std::int64_t n) { return n > 256 ? 257 : std::max<std::int64_t>(1, n / 4); }
#else
constexpr std::int64_t kMostElements = 600000;
std::int64_t Rows(std::int64_t n) { return n; }
#endif

LossSpec SpecOf(Loss loss) {
  LossSpec spec;
  spec.loss = loss;
  return spec;
}

// [rows, classes], or [classes, rows] with the class axis first.
ItemShape Item(std::int64_t rows, std::int64_t classes, bool class_last, DType prediction,
               LabelFormat label, DType gradient) {
  ItemShape item;
  item.shape = class_last ? std::vector<std::int64_t>{rows, classes}
                          : std::vector<std::int64_t>{classes, rows};
  item.class_axis = class_last ? 1 : 0;
  item.prediction = prediction;
  item.label = label;
  item.gradient = gradient;
  item.want_row_loss = true;
  return item;
}

LabelFormat Dense(DType dtype, LabelScale scale = LabelScale::kDivideBy255) {
  return {LabelKind::kDense, dtype, scale};
}

class BackendRegimesTest : public BackendTest {
 protected:
  void ScoreAndCompare(const ItemShape& item, const LossSpec& spec, std::uint64_t seed = 1) {
    Random random(seed);
    const ScoreCase c = RandomCase(item, spec, {}, random);
    ExpectMatches(c, ScoreAlone(backend(), c), /*any_nonfinite=*/false);
  }
};

TEST_P(BackendRegimesTest, ClassesFromOneToAMillion) {
  for (const std::int64_t classes :
       {1,    2,    3,     4,     5,     7,     8,     10,    16,     21,     31,     32,     33,
        48,   63,   64,    65,    100,   127,   128,   129,   255,    256,    257,    511,    512,
        513,  1000, 1023,  1024,  1025,  2047,  2048,  2049,  4095,   4096,   4097,   8191,   8192,
        8193, 9001, 16383, 16384, 16385, 32768, 40000, 65537, 128256, 262144, 300001, 1048577}) {
    SCOPED_TRACE(classes);
    const std::int64_t rows = Rows(classes <= 64      ? 300
                                   : classes <= 1024  ? 70
                                   : classes <= 20000 ? 9
                                                      : 2);
    for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
      ScoreAndCompare(Item(rows, classes, true, kF32, Dense(kF32), kF32), SpecOf(loss));
    }
    ScoreAndCompare(Item(rows, classes, true, DType::kBF16, Dense(DType::kBF16), DType::kBF16),
                    SpecOf(Loss::kSoftmaxCrossEntropy));
    ScoreAndCompare(
        Item(rows, classes, true, kF32, {LabelKind::kClassId, DType::kI64}, DType::kF16),
        SpecOf(Loss::kSoftmaxCrossEntropy));
  }
}

TEST_P(BackendRegimesTest, TilesOfAnyWidth) {
  for (const std::int64_t classes :
       {1, 2, 3, 8, 21, 33, 64, 65, 150, 512, 1000, 5000, 9000, 20000}) {
    for (const std::int64_t rows : {2, 3, 16, 64, 127, 128, 200, 256, 257, 516}) {
      if (classes * rows > kMostElements) continue;
      SCOPED_TRACE(std::to_string(classes) + " classes, " + std::to_string(rows) + " rows");
      for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
        ScoreAndCompare(Item(rows, classes, false, kF32, Dense(kF32), kF32), SpecOf(loss));
      }
      ScoreAndCompare(Item(rows, classes, false, DType::kF16, Dense(DType::kU8), DType::kF16),
                      SpecOf(Loss::kSoftmaxCrossEntropy));
    }
  }
}

TEST_P(BackendRegimesTest, EveryCombinationOfDTypes) {
  const std::vector<LabelFormat> labels = {Dense(kF32),
                                           Dense(DType::kF16),
                                           Dense(DType::kBF16),
                                           Dense(DType::kF64),
                                           Dense(DType::kU8),
                                           Dense(DType::kU8, LabelScale::kRowSum),
                                           {LabelKind::kClassId, DType::kI32},
                                           {LabelKind::kClassId, DType::kI64}};
  const DType floats[] = {kF32, DType::kF16, DType::kBF16, DType::kF64};
  for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
    for (const DType prediction : floats) {
      for (const LabelFormat& label : labels) {
        if (label.scale == LabelScale::kRowSum && IsElementwise(loss)) continue;
        for (const DType gradient : floats) {
          for (const bool class_last : {true, false}) {
            for (const std::int64_t classes : {5, 1030}) {
              ScoreAndCompare(Item(Rows(40), classes, class_last, prediction, label, gradient),
                              SpecOf(loss));
            }
          }
        }
      }
    }
  }
}

TEST_P(BackendRegimesTest, EveryParameterAtOnce) {
  for (const std::int64_t classes : {4, 40, 700, 3000, 9000, 70000}) {
    for (const bool class_last : {true, false}) {
      SCOPED_TRACE(std::to_string(classes) + (class_last ? " last" : " first"));
      Random random(static_cast<std::uint64_t>(classes));
      for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
        LossSpec spec = SpecOf(loss);
        spec.normalizer = Normalizer::kWeighted;
        spec.label_smoothing = 0.1F;
        for (std::int64_t c = 0; c < classes; ++c) {
          spec.class_weight.push_back(static_cast<float>(2 * random.Uniform()));
        }
        if (IsElementwise(loss))
          spec.pos_weight = spec.class_weight;
        else
          spec.label_check = LabelCheck::kRenormalize;
        ItemShape item =
            Item(classes > 5000 ? 3 : 50, classes, class_last, kF32, Dense(kF32), kF32);
        item.has_mask = true;
        item.has_row_weight = true;
        ScoreAndCompare(item, spec);
        item.label = Dense(DType::kU8);
        spec.ignore_value = 0;
        ScoreAndCompare(item, spec);
      }
    }
  }
}

// Rows mean the same wherever they stand in a batch.
TEST_P(BackendRegimesTest, UnlikeSegmentsInOneBatch) {
  Random random(7);
  for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
    for (const std::int64_t classes : {3, 130, 9000}) {
      for (const bool class_last : {true, false}) {
        std::vector<ScoreCase> cases;
        for (int i = 0; i < 12; ++i) {
          LossSpec spec = SpecOf(loss);
          if (i % 3 == 1) spec.label_smoothing = 0.2F;
          if (i % 3 == 2) {
            spec.class_weight.assign(static_cast<std::size_t>(classes),
                                     0.5F + static_cast<float>(i));
          }
          ItemShape item = Item(1 + 37 * i % 300, classes, class_last, kF32, Dense(kF32), kF32);
          if (classes == 9000) item.shape[class_last ? 0 : 1] = 2 + i % 2;
          item.has_mask = i % 2 == 0;
          item.has_row_weight = i % 4 == 0;
          cases.push_back(RandomCase(item, spec, {}, random));
        }
        // Segments of a batch have one layout: a single row of a tile counts as class-last.
        std::vector<const ScoreCase*> batch;
        for (const ScoreCase& c : cases) {
          if (c.plan.key == cases[1].plan.key) batch.push_back(&c);
        }
        InlineExecutor executor;
        const std::vector<ScoreOutcome> outcomes =
            ScoreBatch(backend(), executor, batch, {.chunk_leaves = 1});
        for (std::size_t i = 0; i < batch.size(); ++i) {
          ExpectMatches(*batch[i], outcomes[i], false);
          EXPECT_EQ(outcomes[i].BitDifference(ScoreAlone(backend(), *batch[i])), "");
        }
      }
    }
  }
}

// The reference has no regimes, and would be compared with itself for minutes.
INSTANTIATE_TEST_SUITE_P(All, BackendRegimesTest, ::testing::ValuesIn(FastBackends()), ParamName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BackendRegimesTest);

}  // namespace
}  // namespace softloss::testing
