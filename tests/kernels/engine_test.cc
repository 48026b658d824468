#include "kernels/engine.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "tests/testing/score_case.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/thread_executor.h"

namespace softloss {
namespace {

using testing::Bytes;
using testing::CaseOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Random;
using testing::ScoreCase;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

ItemShape Item(std::vector<std::int64_t> shape, int axis) {
  ItemShape item;
  item.shape = std::move(shape);
  item.class_axis = axis;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  return item;
}

LossSpec Softmax() {
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  return spec;
}

struct Result {
  absl::StatusOr<ItemTotals> totals = ItemTotals();
  Bytes gradient, row_loss;
};

Result RunEngine(Backend& backend, Executor& executor, const ScoreCase& c,
                 std::int64_t chunk_rows = 0) {
  Result result;
  const auto rows = static_cast<std::size_t>(c.plan.geometry.rows());
  result.gradient.resize(rows * static_cast<std::size_t>(c.plan.gradient_row_bytes));
  result.row_loss.resize(static_cast<std::size_t>(c.plan.row_loss_bytes(c.plan.geometry.rows())));
  EngineOutputs out;
  if (c.item.gradient) out.gradient = result.gradient.data();
  if (c.item.want_row_loss) out.row_loss = result.row_loss.data();
  result.totals = ScoreItem(backend, executor, c.spec, c.item, c.inputs(), out, chunk_rows);
  return result;
}

class EngineTest : public ::testing::Test {
 protected:
  Result Run(const ScoreCase& c, std::int64_t chunk_rows = 0) {
    return RunEngine(*backend_, executor_, c, chunk_rows);
  }
  std::unique_ptr<Backend> backend_ = MakeReferenceBackend();
  InlineExecutor executor_;
};

// ln 2 for each of two undecided classes; the second row is certain and wrong by 3.
TEST_F(EngineTest, ScoresByHand) {
  const ScoreCase c = CaseOf(Item({2, 2}, 1), Softmax(), {{0, 0, 3, 0}}, {{0.5, 0.5, 0, 1}});
  const Result result = Run(c);
  ASSERT_THAT(result.totals, IsOk());
  const double second = 3 + std::log1p(std::exp(-3));
  EXPECT_NEAR(result.totals->loss_sum, std::log(2) + second, 1e-15);
  EXPECT_NEAR(result.totals->loss, (std::log(2) + second) / 2, 1e-15);
  EXPECT_EQ(result.totals->denominator, 2);
  EXPECT_EQ(result.totals->gradient_scale, 0.5);
  EXPECT_EQ(result.totals->tally.valid, 2);
  const std::vector<double> gradient = testing::Decode(DType::kF32, result.gradient);
  const double p = 1 / (1 + std::exp(-3));
  EXPECT_NEAR(gradient[0], 0, 1e-7);
  EXPECT_NEAR(gradient[2], p, 1e-7);
  EXPECT_NEAR(gradient[3], -p, 1e-7);
  EXPECT_NEAR(result.totals->gradient_l2_norm, std::sqrt(2) * p, 1e-7);
  EXPECT_NEAR(testing::Decode(DType::kF32, result.row_loss)[1], second, 1e-6);
}

TEST_F(EngineTest, AnyAxisAndAnyChunkingGiveTheSameBits) {
  Random random(11);
  for (const ItemShape& item : {Item({900, 21}, 1), Item({3, 21, 20, 15}, 1), Item({21, 900}, 0),
                                Item({30, 21, 30}, -2), Item({5, 200, 65}, 2)}) {
    for (Loss loss : {Loss::kSoftmaxCrossEntropy, Loss::kSigmoidCrossEntropy}) {
      LossSpec spec;
      spec.loss = loss;
      ItemShape with_all = item;
      with_all.has_mask = with_all.has_row_weight = true;
      const ScoreCase c = RandomCase(with_all, spec, {}, random);
      const Result whole = Run(c, std::numeric_limits<std::int64_t>::max());
      ASSERT_THAT(whole.totals, IsOk());
      const testing::ScoreOutcome direct = testing::ScoreAlone(*backend_, c);
      EXPECT_EQ(whole.gradient, direct.gradient);
      EXPECT_EQ(whole.row_loss, direct.row_loss);
      testing::ThreadExecutor threads(3);
      for (std::int64_t chunk_rows : {0, 1, 256, 300, 512}) {
        for (Executor* executor :
             {static_cast<Executor*>(&executor_), static_cast<Executor*>(&threads)}) {
          const Result cut = RunEngine(*backend_, *executor, c, chunk_rows);
          ASSERT_THAT(cut.totals, IsOk());
          EXPECT_EQ(cut.gradient, whole.gradient) << c.Describe() << " " << chunk_rows;
          EXPECT_EQ(cut.row_loss, whole.row_loss);
          EXPECT_EQ(cut.totals->loss, whole.totals->loss);
          EXPECT_EQ(cut.totals->gradient_l2_norm, whole.totals->gradient_l2_norm);
          EXPECT_EQ(cut.totals->tally, whole.totals->tally);
        }
      }
    }
  }
}

TEST_F(EngineTest, EmptyItemsAreFine) {
  for (Loss loss : {Loss::kSoftmaxCrossEntropy, Loss::kSigmoidCrossEntropy}) {
    LossSpec spec;
    spec.loss = loss;
    const Result result = Run(CaseOf(Item({0, 5}, 1), spec, {}, {}));
    ASSERT_THAT(result.totals, IsOk());
    EXPECT_TRUE(result.totals->empty);
    EXPECT_EQ(result.totals->loss, 0);
    EXPECT_EQ(result.totals->denominator, 1);
  }
}

TEST_F(EngineTest, EverythingMaskedIsEmpty) {
  const double nan = std::nan("");
  const Result result = Run(CaseOf(Item({2, 2}, 1), Softmax(), {{nan, 1, 2, HUGE_VAL}},
                                   {{nan, 1, 5, 5}}, {{0, 0}}, {{nan, -1}}));
  ASSERT_THAT(result.totals, IsOk());
  EXPECT_TRUE(result.totals->empty);
  EXPECT_EQ(result.totals->loss, 0);
  EXPECT_EQ(result.totals->tally, Tally());
  EXPECT_EQ(result.gradient, Bytes(16));
}

TEST_F(EngineTest, ErrorsNameTheItemsFirstBadRow) {
  ItemShape item = Item({700, 3}, 1);
  item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI64};
  Random random(5);
  ScoreCase c = RandomCase(item, Softmax(), {}, random);
  const Bytes bad = testing::Encode(DType::kI64, {{3, -7}});
  std::copy_n(bad.begin(), 8, c.label.begin() + 600 * 8);
  std::copy_n(bad.begin() + 8, 8, c.label.begin() + 650 * 8);
  for (std::int64_t chunk_rows : {0, 256}) {
    EXPECT_THAT(Run(c, chunk_rows).totals,
                StatusIs(kInvalid, HasSubstr("label: class ids must be in [0, 3); row 600 was 3")));
  }
  const ScoreCase weighted =
      CaseOf(Item({2, 1}, 1), Softmax(), {{0, 0}}, {{1, 1}}, {}, {{1, -0.5}});
  EXPECT_THAT(Run(weighted).totals,
              StatusIs(kInvalid, HasSubstr("row_weight: must be finite and not negative; row 1")));
}

TEST_F(EngineTest, ChecksItsArguments) {
  const ScoreCase c = CaseOf(Item({1, 2}, 1), Softmax(), {{0, 0}}, {{0, 1}}, {{1}}, {{1}});
  float gradient[2], row_loss[1];
  const EngineOutputs out = {gradient, row_loss};
  const auto with = [&](auto change) {
    EngineInputs in = c.inputs();
    EngineOutputs o = out;
    change(in, o);
    return ScoreItem(*backend_, executor_, c.spec, c.item, in, o).status();
  };
  EXPECT_THAT(with([](auto&, auto&) {}), IsOk());
  EXPECT_THAT(with([](auto& in, auto&) { in.prediction = nullptr; }),
              StatusIs(kInvalid, HasSubstr("prediction")));
  EXPECT_THAT(with([](auto& in, auto&) { in.label = nullptr; }),
              StatusIs(kInvalid, HasSubstr("label")));
  EXPECT_THAT(with([](auto& in, auto&) { in.mask = nullptr; }),
              StatusIs(kInvalid, HasSubstr("mask")));
  EXPECT_THAT(with([](auto& in, auto&) { in.row_weight = nullptr; }),
              StatusIs(kInvalid, HasSubstr("row_weight")));
  EXPECT_THAT(with([](auto&, auto& o) { o.gradient = nullptr; }),
              StatusIs(kInvalid, HasSubstr("gradient")));
  EXPECT_THAT(with([](auto&, auto& o) { o.row_loss = nullptr; }),
              StatusIs(kInvalid, HasSubstr("row_loss")));
  LossSpec bad = c.spec;
  bad.label_smoothing = 2;
  EXPECT_THAT(ScoreItem(*backend_, executor_, bad, c.item, c.inputs(), out),
              StatusIs(kInvalid, HasSubstr("label_smoothing")));
}

// A device with room for `capacity` segments at a time.
class SmallDevice final : public Backend {
 public:
  explicit SmallDevice(std::size_t capacity) : capacity_(capacity) {}
  std::string_view name() const override { return "small"; }
  std::string numerics_id() const override { return "small"; }
  absl::Status Supports(const ScoreKey& key) const override {
    return key.classes == 99 ? absl::UnimplementedError("classes: 99") : absl::OkStatus();
  }
  absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) override {
    if (batch.size() > capacity_) return absl::ResourceExhaustedError("device memory");
    return inner_->Score(key, batch, executor);
  }

 private:
  const std::size_t capacity_;
  std::unique_ptr<Backend> inner_ = MakeReferenceBackend();
};

TEST_F(EngineTest, SplitsBatchesThatDoNotFitTheDevice) {
  Random random(6);
  const ScoreCase c = RandomCase(Item({2000, 3}, 1), Softmax(), {}, random);
  const Result whole = Run(c);
  SmallDevice device(3);
  const Result split = RunEngine(device, executor_, c, 256);
  ASSERT_THAT(split.totals, IsOk());
  EXPECT_EQ(split.gradient, whole.gradient);
  EXPECT_EQ(split.totals->loss, whole.totals->loss);
  SmallDevice full(0);
  EXPECT_THAT(RunEngine(full, executor_, c, 256).totals,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("device memory")));
}

TEST_F(EngineTest, AsksTheBackendWhatItSupports) {
  SmallDevice device(9);
  Random random(6);
  const ScoreCase c = RandomCase(Item({2, 99}, 1), Softmax(), {}, random);
  EXPECT_THAT(RunEngine(device, executor_, c).totals,
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("99")));
}

TEST(BackendsTest, NamesMakeBackends) {
  EXPECT_THAT(BackendNames(), ::testing::Contains("reference"));
  const auto reference = MakeBackend("reference");
  ASSERT_THAT(reference, IsOk());
  EXPECT_EQ((*reference)->name(), "reference");
  EXPECT_THAT((*reference)->numerics_id(), ::testing::StartsWith("reference-"));
  EXPECT_THAT(MakeBackend("tpu"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("reference")));
}

// Images are scored whole, whatever chunk is asked for, by any number of threads.
TEST_F(EngineTest, RegionsDoNotDependOnChunksOrThreads) {
  Random random(12);
  LossSpec spec;
  spec.loss = Loss::kSoftDice;
  for (std::vector<std::int64_t> shape :
       {std::vector<std::int64_t>{3, 4, 50, 60}, std::vector<std::int64_t>{5000, 7}}) {
    const ScoreCase c = testing::RandomCase(Item(shape, 1), spec, {}, random);
    InlineExecutor inline_executor;
    testing::ThreadExecutor threads(3);
    absl::StatusOr<std::unique_ptr<Backend>> made = MakeBackend("cpu");
    const std::unique_ptr<Backend> backend = made.ok() ? *std::move(made) : MakeReferenceBackend();
    const Result whole = RunEngine(*backend, inline_executor, c);
    ASSERT_THAT(whole.totals, IsOk());
    for (std::int64_t chunk_rows : {1, 300, 3001}) {
      const Result cut = RunEngine(*backend, threads, c, chunk_rows);
      ASSERT_THAT(cut.totals, IsOk());
      EXPECT_EQ(cut.totals->loss, whole.totals->loss);
      EXPECT_EQ(cut.totals->gradient_l2_norm, whole.totals->gradient_l2_norm);
      EXPECT_EQ(cut.gradient, whole.gradient);
      EXPECT_EQ(cut.row_loss, whole.row_loss);
    }
    EXPECT_EQ(whole.totals->denominator,
              static_cast<double>(c.plan.geometry.rows() / c.plan.leaf_rows * shape[1]));
  }
}

}  // namespace
}  // namespace softloss
