// The bit contract: what may vary without changing a bit of a row's or a leaf's results.
#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backend_param.h"
#include "tests/testing/score_case.h"
#include "tests/testing/thread_executor.h"

namespace softloss::testing {
namespace {

struct Variant {
  Loss loss;
  std::int64_t rows, classes;
  bool class_last;
  DType prediction;
  LabelFormat label;
  DType gradient;
};

std::vector<Variant> VariantsOf(absl::Span<const Loss> losses) {
  std::vector<Variant> variants;
  const LabelFormat f32 = {}, u8 = {.dtype = DType::kU8}, f16 = {.dtype = DType::kF16},
                    row_sum = {.dtype = DType::kU8, .scale = LabelScale::kRowSum},
                    ids = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
  for (Loss loss : losses) {
    const bool softmax = !IsElementwise(loss);
    for (bool class_last : {true, false}) {
      variants.push_back({loss, 700, 1, class_last, DType::kF32, f32, DType::kF32});
      variants.push_back({loss, 700, 2, class_last, DType::kF16, f16, DType::kF16});
      variants.push_back({loss, 600, 21, class_last, DType::kF32, u8, DType::kBF16});
      variants.push_back({loss, 530, 33, class_last, DType::kBF16, ids, DType::kF32});
      variants.push_back({loss, 300, 100, class_last, DType::kF64, f32, DType::kF64});
      variants.push_back(
          {loss, 50, 1000, class_last, DType::kF32, softmax ? row_sum : u8, DType::kF32});
    }
  }
  return variants;
}

class BackendBitsTest : public BackendTest {
 protected:
  std::vector<Variant> Variants() const { return VariantsOf(losses()); }

  ScoreCase Make(const Variant& v) { return Make(v, v.rows); }

  // Ordinary rows with a few that hold NaN, infinities, weights and masks among them.
  ScoreCase Make(const Variant& v, std::int64_t rows) {
    ItemShape item;
    item.shape = v.class_last ? std::vector{rows, v.classes} : std::vector{v.classes, rows};
    item.class_axis = v.class_last ? 1 : 0;
    item.prediction = v.prediction;
    item.label = v.label;
    item.gradient = v.gradient;
    item.has_mask = item.has_row_weight = item.want_row_loss = true;
    LossSpec spec;
    spec.loss = v.loss;
    spec.normalizer = Normalizer::kWeighted;
    ScoreCase c = RandomCase(item, spec, {}, random_);
    std::vector<double> x = Decode(v.prediction, c.prediction);
    for (double& value : x) {
      if (random_.Chance(0.0005)) value = HUGE_VAL;
      if (random_.Chance(0.0005)) value = std::nan("");
      if (random_.Chance(0.001)) value = -HUGE_VAL;
    }
    c.prediction = Encode(v.prediction, x);
    return c;
  }

  static ScoreLayout Chunks(std::int64_t leaves) { return {.chunk_leaves = leaves, .pieces = {}}; }

  void ExpectSameBits(const ScoreCase& c, const ScoreOutcome& want, const ScoreLayout& layout,
                      const char* what) {
    const ScoreOutcome got = ScoreAlone(backend(), c, layout);
    EXPECT_EQ(got.BitDifference(want), "") << what << "\n" << c.Describe();
  }

  Random random_{77};
};

TEST_P(BackendBitsTest, ChunksAtAnyLeaf) {
  for (const Variant& v : Variants()) {
    const ScoreCase c = Make(v);
    const ScoreOutcome whole = ScoreAlone(backend(), c);
    ASSERT_TRUE(whole.status.ok()) << whole.status;
    ExpectSameBits(c, whole, {}, "again");
    ExpectSameBits(c, whole, Chunks(1), "a leaf a chunk");
    ExpectSameBits(c, whole, Chunks(2), "two leaves a chunk");
    ExpectSameBits(c, whole, Chunks(3), "three leaves a chunk");
  }
}

TEST_P(BackendBitsTest, AnyCutAlignmentAndSurroundings) {
  for (const Variant& v : Variants()) {
    const ScoreCase c = Make(v, std::min<std::int64_t>(v.rows, 300));
    const ScoreOutcome whole = ScoreAlone(backend(), c);
    for (std::size_t misalign : {1, 2, 4, 7, 32, 63}) {
      ExpectSameBits(c, whole, {.pieces = {.misalign = misalign}}, "misaligned");
    }
    for (std::uint8_t poison : {0x00, 0x7F, 0xFF}) {  // 0, and NaN in some dtype
      ExpectSameBits(c, whole, {.pieces = {.poison = poison}}, "poison");
    }
    for (std::size_t size : {1000, 200, 64, 17}) {
      ExpectSameBits(c, whole, {.pieces = {.max_size = size, .misalign = size % 5, .seed = size}},
                     "cut");
    }
    ExpectSameBits(c, whole, {.chunk_leaves = 1, .pieces = {.max_size = 300, .poison = 0xFF}},
                   "chunked and cut");
  }
}

TEST_P(BackendBitsTest, CutIntoSingleBytes) {
  for (const Variant& v : Variants()) {
    const ScoreCase c = Make(v, 1 + 2000 / v.classes);
    ExpectSameBits(c, ScoreAlone(backend(), c), {.pieces = {.max_size = 1}}, "bytes");
  }
}

TEST_P(BackendBitsTest, AloneOrAmongOthersByAnyNumberOfThreads) {
  InlineExecutor inline_executor;
  ThreadExecutor threads(3);
  for (const Variant& v : Variants()) {
    std::vector<ScoreCase> cases;
    std::vector<const ScoreCase*> batch;
    std::vector<ScoreOutcome> alone;
    // A tile of one row would be class-last, and so have another key.
    for (std::int64_t rows :
         {v.rows / 2, std::int64_t{v.class_last ? 1 : 2}, std::int64_t{19}, v.rows / 3}) {
      cases.push_back(Make(v, rows));
    }
    cases[1].spec.reduction = Reduction::kSum;
    for (const ScoreCase& c : cases) {
      batch.push_back(&c);
      alone.push_back(ScoreAlone(backend(), c));
    }
    for (Executor* executor :
         {static_cast<Executor*>(&inline_executor), static_cast<Executor*>(&threads)}) {
      for (std::int64_t chunk_leaves : {0, 1}) {
        const ScoreLayout layout = {.chunk_leaves = chunk_leaves, .pieces = {.misalign = 4}};
        const std::vector<ScoreOutcome> together = ScoreBatch(backend(), *executor, batch, layout);
        for (std::size_t i = 0; i < cases.size(); ++i) {
          EXPECT_EQ(together[i].BitDifference(alone[i]), "") << cases[i].Describe();
        }
      }
    }
  }
}

// A row's loss and gradient are its own: they do not know the row's place.
TEST_P(BackendBitsTest, RowsMayStandAnywhere) {
  for (const Variant& v : Variants()) {
    if (v.label.kind != LabelKind::kDense || IsRegional(v.loss)) continue;
    const ScoreCase c = Make(v, 67);
    const Geometry& g = c.plan.geometry;
    const std::vector<double> x = ToRowOrder(g, Decode(v.prediction, c.prediction));
    const std::vector<double> t = ToRowOrder(g, Decode(v.label.dtype, c.label));
    const std::vector<double> mask = Decode(DType::kU8, c.mask);
    const std::vector<double> weight = Decode(DType::kF32, c.row_weight);
    const auto classes = static_cast<std::ptrdiff_t>(g.classes);
    const auto rotate = [](std::vector<double> values, std::ptrdiff_t by) {
      std::rotate(values.begin(), values.begin() + by, values.end());
      return values;
    };
    const std::ptrdiff_t shift = 5;
    const ScoreCase moved =
        CaseOf(c.item, c.spec, rotate(x, shift * classes), rotate(t, shift * classes),
               rotate(mask, shift), rotate(weight, shift));
    const ScoreOutcome first = ScoreAlone(backend(), c);
    const ScoreOutcome second = ScoreAlone(backend(), moved);
    const auto rows_of = [&](const Bytes& bytes, DType dtype) {
      return Encode(dtype, ToRowOrder(g, Decode(dtype, bytes)));
    };
    Bytes gradient = rows_of(first.gradient, v.gradient);
    std::rotate(gradient.begin(),
                gradient.begin() + shift * static_cast<std::ptrdiff_t>(c.plan.gradient_row_bytes),
                gradient.end());
    EXPECT_EQ(gradient, rows_of(second.gradient, v.gradient)) << c.Describe();
    const DType dtype = c.plan.row_loss_dtype();
    const bool elements = IsElementwise(v.loss);
    Bytes loss = elements ? rows_of(first.row_loss, dtype) : first.row_loss;
    std::rotate(loss.begin(),
                loss.begin() + shift * static_cast<std::ptrdiff_t>(c.plan.row_loss_row_bytes),
                loss.end());
    EXPECT_EQ(loss, elements ? rows_of(second.row_loss, dtype) : second.row_loss) << c.Describe();
  }
}

TEST_P(BackendBitsTest, NumericsIdNamesTheBackend) {
  EXPECT_EQ(backend().name(), GetParam());
  EXPECT_EQ(backend().numerics_id().rfind(GetParam() + "-", 0), 0u) << backend().numerics_id();
  EXPECT_EQ(backend().numerics_id(), (*MakeBackend(GetParam()))->numerics_id());
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendBitsTest);

}  // namespace
}  // namespace softloss::testing
