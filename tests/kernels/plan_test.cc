#include "kernels/plan.h"

#include <limits>

#include "absl/hash/hash_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

LossSpec Softmax() {
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  return spec;
}

ItemShape Item() {
  ItemShape item;
  item.shape = {2, 5, 3, 4};
  item.class_axis = 1;
  return item;
}

ItemShape ClassIds(DType dtype) {
  ItemShape item = Item();
  item.label = {.kind = LabelKind::kClassId, .dtype = dtype};
  return item;
}

TEST(MakePlanTest, CountsBytesOfEveryTensor) {
  ItemShape item = Item();
  item.prediction = DType::kF16;
  item.label.dtype = DType::kU8;
  item.gradient = DType::kF32;
  item.has_mask = item.has_row_weight = item.want_row_loss = true;
  const ItemPlan plan = *MakePlan(item, Softmax());
  EXPECT_EQ(plan.geometry, (Geometry{.outer = 2, .classes = 5, .inner = 12, .batch = 2}));
  EXPECT_EQ(plan.key, (ScoreKey{.loss = Loss::kSoftmaxCrossEntropy,
                                .prediction = DType::kF16,
                                .label = {.dtype = DType::kU8},
                                .gradient = DType::kF32,
                                .classes = 5,
                                .class_last = false}));
  EXPECT_EQ(plan.leaf_rows, 256);
  EXPECT_EQ(plan.prediction_row_bytes, 10);
  EXPECT_EQ(plan.label_row_bytes, 5);
  EXPECT_EQ(plan.mask_row_bytes, 1);
  EXPECT_EQ(plan.weight_row_bytes, 4);
  EXPECT_EQ(plan.gradient_row_bytes, 20);
  EXPECT_EQ(plan.row_loss_row_bytes, 4);
  EXPECT_EQ(plan.request_row_bytes(), 20);
  EXPECT_EQ(plan.reply_row_bytes(), 24);
}

TEST(MakePlanTest, AbsentTensorsTakeNoBytes) {
  const ItemPlan plan = *MakePlan(Item(), Softmax());
  EXPECT_EQ(plan.request_row_bytes(), 5 * 4 + 5 * 4);
  EXPECT_EQ(plan.reply_row_bytes(), 0);
}

TEST(MakePlanTest, SigmoidLossesHaveElementLossesAndDoublesStayDoubles) {
  ItemShape item = Item();
  item.prediction = DType::kF64;
  item.want_row_loss = true;
  const ItemPlan plan = *MakePlan(item, LossSpec());
  EXPECT_EQ(plan.row_loss_dtype(), DType::kF64);
  EXPECT_EQ(plan.row_loss_row_bytes, 5 * 8);
}

TEST(MakePlanTest, ClassIdsTakeOneValueARow) {
  EXPECT_EQ(MakePlan(ClassIds(DType::kI64), Softmax())->label_row_bytes, 8);
  EXPECT_EQ(MakePlan(ClassIds(DType::kI32), LossSpec())->label_row_bytes, 4);
}

TEST(MakePlanTest, RefusesDTypesThatDoNotFitTheTensor) {
  ItemShape item = Item();
  item.prediction = DType::kU8;
  EXPECT_THAT(MakePlan(item, Softmax()),
              StatusIs(kInvalid, AllOf(HasSubstr("prediction.dtype"), HasSubstr("uint8"))));
  item = Item();
  item.gradient = DType::kI32;
  EXPECT_THAT(MakePlan(item, Softmax()),
              StatusIs(kInvalid, AllOf(HasSubstr("gradient_dtype"), HasSubstr("int32"))));
  item = Item();
  item.label.dtype = DType::kI64;
  EXPECT_THAT(MakePlan(item, Softmax()),
              StatusIs(kInvalid, AllOf(HasSubstr("label.dtype"), HasSubstr("int64"))));
  EXPECT_THAT(MakePlan(ClassIds(DType::kF32), Softmax()),
              StatusIs(kInvalid, AllOf(HasSubstr("label.dtype"), HasSubstr("float32"))));
  EXPECT_THAT(MakePlan(ClassIds(DType::kU8), Softmax()), StatusIs(kInvalid, HasSubstr("uint8")));
  item = Item();
  item.prediction = static_cast<DType>(0);
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("prediction.dtype")));
}

TEST(MakePlanTest, ClassAxisIsThereWhereItIsNeeded) {
  ItemShape item = Item();
  item.class_axis.reset();
  EXPECT_THAT(MakePlan(item, LossSpec()), IsOk());
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("prediction.class_axis")));
  ItemShape ids = ClassIds(DType::kI32);
  ids.class_axis.reset();
  EXPECT_THAT(MakePlan(ids, LossSpec()), StatusIs(kInvalid, HasSubstr("prediction.class_axis")));
  item.class_axis = 4;
  EXPECT_THAT(MakePlan(item, LossSpec()), StatusIs(kInvalid, HasSubstr("was 4")));
}

TEST(MakePlanTest, RowSumIsForBytesOverClasses) {
  ItemShape item = Item();
  item.label.scale = LabelScale::kRowSum;
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("label.scale")));
  item.label.dtype = DType::kU8;
  EXPECT_THAT(MakePlan(item, Softmax()), IsOk());
  EXPECT_THAT(MakePlan(item, LossSpec()), StatusIs(kInvalid, HasSubstr("label.scale")));
  ItemShape ids = ClassIds(DType::kI32);
  ids.label.scale = LabelScale::kRowSum;
  EXPECT_THAT(MakePlan(ids, Softmax()), StatusIs(kInvalid, HasSubstr("label.scale")));
  item.label.scale = static_cast<LabelScale>(7);
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("was 7")));
  item = Item();
  item.label.kind = static_cast<LabelKind>(4);
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("label.kind")));
}

ItemShape Sparse(std::int32_t k, TailRule tail) {
  ItemShape item = Item();
  item.label = {.kind = LabelKind::kSparse,
                .dtype = DType::kF16,
                .k = k,
                .id_dtype = DType::kI32,
                .tail = tail};
  return item;
}

TEST(MakePlanTest, SparseLabelsTakeBytesARow) {
  const ItemPlan plan = *MakePlan(Sparse(3, TailRule::kUniform), Softmax());
  EXPECT_EQ(plan.label_row_bytes, 6);
  EXPECT_EQ(plan.label_ids_row_bytes, 12);
  EXPECT_EQ(plan.request_row_bytes(), 20 + 6 + 12);
  const std::int64_t rows = plan.geometry.rows();
  ChunkSizes sizes = {.prediction = static_cast<std::size_t>(rows * 20),
                      .label = static_cast<std::size_t>(rows * 6),
                      .label_ids = static_cast<std::size_t>(rows * 12)};
  EXPECT_THAT(CheckChunk(plan, 0, rows, sizes), IsOk());
  --sizes.label_ids;
  EXPECT_THAT(CheckChunk(plan, 0, rows, sizes), StatusIs(kInvalid, HasSubstr("label_ids: ")));
}

TEST(MakePlanTest, KeysOfOtherLabelsIgnoreWhatIsSparse) {
  ItemShape item = Item();
  item.label.k = 3;
  item.label.tail = TailRule::kZero;
  EXPECT_EQ(MakePlan(item, Softmax())->key, MakePlan(Item(), Softmax())->key);
}

TEST(MakePlanTest, RefusesWrongSparseLabels) {
  const auto refused = [](const ItemShape& item, const char* message, LossSpec spec = Softmax()) {
    EXPECT_THAT(MakePlan(item, spec), StatusIs(kInvalid, HasSubstr(message)));
  };
  EXPECT_THAT(MakePlan(Sparse(5, TailRule::kBucket), Softmax()), IsOk());
  refused(Sparse(0, TailRule::kZero), "label.k: must be in [1, 5] for 5 classes; was 0");
  refused(Sparse(6, TailRule::kZero), "label.k: must be in [1, 5] for 5 classes; was 6");
  ItemShape wide = Sparse(1025, TailRule::kZero);
  wide.shape = {2, 3000};
  refused(wide, "label.k: must be in [1, 1024]");
  refused(Sparse(2, TailRule::kNone), "label.tail: ");
  refused(Sparse(2, static_cast<TailRule>(5)), "label.tail: ");
  ItemShape item = Sparse(2, TailRule::kZero);
  item.label.dtype = DType::kI32;
  refused(item, "label.dtype: ");
  item = Sparse(2, TailRule::kZero);
  item.label.id_dtype = DType::kF32;
  refused(item, "label.id_dtype: ");
  item = Sparse(2, TailRule::kZero);
  item.label.scale = LabelScale::kRowSum;
  refused(item, "label.scale: ");
  item = Sparse(2, TailRule::kZero);
  item.class_axis.reset();
  refused(item, "prediction.class_axis: ", LossSpec());
  refused(Sparse(2, TailRule::kUniform), "label.tail: must be ZERO for sigmoid_cross_entropy",
          LossSpec());
  LossSpec spec = Softmax();
  spec.ignore_index = 3;
  refused(Sparse(2, TailRule::kZero), "ignore_index: ", spec);
  spec = Softmax();
  spec.ignore_value = 3;
  refused(Sparse(2, TailRule::kZero), "ignore_value: ", spec);
  spec = Softmax();
  spec.label_smoothing = 0.1f;
  refused(Sparse(2, TailRule::kBucket), "label_smoothing: ", spec);
  EXPECT_THAT(MakePlan(Sparse(2, TailRule::kZero), spec), IsOk());
  spec = Softmax();
  spec.class_weight.assign(5, 1);
  refused(Sparse(2, TailRule::kBucket), "class_weight: ", spec);
  spec = Softmax();
  spec.class_mask.assign(5, 1);
  refused(Sparse(2, TailRule::kBucket), "class_mask: ", spec);
}

TEST(MakePlanTest, WeightsHaveOneValueAClass) {
  LossSpec spec;
  spec.class_weight = {1, 1, 1, 1};
  EXPECT_THAT(MakePlan(Item(), spec),
              StatusIs(kInvalid, AllOf(HasSubstr("class_weight"), HasSubstr("had 4"))));
  spec.class_weight.push_back(1);
  EXPECT_THAT(MakePlan(Item(), spec), IsOk());
  for (std::size_t size : {1u, 5u}) {
    spec.pos_weight.assign(size, 2);
    EXPECT_THAT(MakePlan(Item(), spec), IsOk());
  }
  spec.pos_weight.assign(3, 2);
  EXPECT_THAT(MakePlan(Item(), spec),
              StatusIs(kInvalid, AllOf(HasSubstr("pos_weight"), HasSubstr("had 3"))));
}

TEST(MakePlanTest, IgnoringFitsTheLabels) {
  LossSpec spec = Softmax();
  spec.ignore_index = -1;
  EXPECT_THAT(MakePlan(Item(), spec), StatusIs(kInvalid, HasSubstr("ignore_index")));
  EXPECT_THAT(MakePlan(ClassIds(DType::kI32), spec), IsOk());
  spec = Softmax();
  spec.ignore_value = 255;
  EXPECT_THAT(MakePlan(Item(), spec), IsOk());
  EXPECT_THAT(MakePlan(ClassIds(DType::kI32), spec), StatusIs(kInvalid, HasSubstr("ignore_value")));
}

TEST(MakePlanTest, RefusesShapesThatOverflow) {
  ItemShape item = Item();
  item.shape = {std::int64_t{1} << 31, std::int64_t{1} << 31, 4};
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("prediction.shape")));
  // Fewer than 2^60 elements, but more than 2^63 bytes over all tensors.
  item.shape = {(std::int64_t{1} << 59), 1};
  item.prediction = item.label.dtype = DType::kF64;
  item.gradient = DType::kF64;
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("2^63")));
  // No rows, but a row would overflow.
  item.shape = {0, std::numeric_limits<std::int64_t>::max()};
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("prediction.shape")));
  item.shape = {2, -1, 3};
  EXPECT_THAT(MakePlan(item, Softmax()), StatusIs(kInvalid, HasSubstr("negative")));
}

TEST(MakePlanTest, AcceptsEmptyBatches) {
  ItemShape item = Item();
  item.shape = {0, 5, 3};
  const absl::StatusOr<ItemPlan> plan = MakePlan(item, Softmax());
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->geometry.rows(), 0);
  EXPECT_THAT(CheckChunk(*plan, 0, 0, {}), IsOk());
}

// 21 classes, 600 rows: leaves of 256.
class CheckChunkTest : public ::testing::Test {
 protected:
  CheckChunkTest() {
    ItemShape item;
    item.shape = {600, 21};
    item.class_axis = 1;
    item.has_mask = true;
    item.has_row_weight = true;
    item.label.dtype = DType::kF16;
    plan_ = *MakePlan(item, Softmax());
  }
  static ChunkSizes SizesOf(std::size_t rows) {
    return {.prediction = rows * 84, .label = rows * 42, .mask = rows, .row_weight = rows * 4};
  }
  absl::Status Check(std::int64_t begin, std::int64_t rows) {
    return CheckChunk(plan_, begin, rows, SizesOf(static_cast<std::size_t>(rows)));
  }
  ItemPlan plan_;
};

TEST_F(CheckChunkTest, AcceptsWholeLeavesAndTheEnd) {
  EXPECT_THAT(Check(0, 600), IsOk());
  EXPECT_THAT(Check(0, 256), IsOk());
  EXPECT_THAT(Check(256, 256), IsOk());
  EXPECT_THAT(Check(512, 88), IsOk());
}

TEST_F(CheckChunkTest, RefusesPartsOfLeavesAndRangesOutside) {
  EXPECT_THAT(Check(0, 100), StatusIs(kInvalid, HasSubstr("chunk.rows")));
  EXPECT_THAT(Check(100, 256), StatusIs(kInvalid, HasSubstr("chunk.row_begin")));
  EXPECT_THAT(Check(512, 89), StatusIs(kInvalid, HasSubstr("was 89")));
  EXPECT_THAT(Check(-256, 256), StatusIs(kInvalid, HasSubstr("was -256")));
  EXPECT_THAT(Check(0, 0), StatusIs(kInvalid, HasSubstr("chunk.rows")));
  EXPECT_THAT(Check(0, -256), StatusIs(kInvalid, HasSubstr("chunk.rows")));
  EXPECT_THAT(Check(600, 1), StatusIs(kInvalid, HasSubstr("chunk.rows")));
  EXPECT_THAT(Check(512, std::numeric_limits<std::int64_t>::max()),
              StatusIs(kInvalid, HasSubstr("chunk.rows")));
}

TEST_F(CheckChunkTest, EveryTensorHasExactlyItsBytes) {
  for (int delta : {-1, 1}) {
    ChunkSizes sizes = SizesOf(256);
    sizes.prediction += static_cast<std::size_t>(delta);
    EXPECT_THAT(CheckChunk(plan_, 0, 256, sizes), StatusIs(kInvalid, HasSubstr("prediction:")));
    sizes = SizesOf(256);
    sizes.label += static_cast<std::size_t>(delta);
    EXPECT_THAT(CheckChunk(plan_, 0, 256, sizes), StatusIs(kInvalid, HasSubstr("label:")));
    sizes = SizesOf(256);
    sizes.mask += static_cast<std::size_t>(delta);
    EXPECT_THAT(CheckChunk(plan_, 0, 256, sizes), StatusIs(kInvalid, HasSubstr("mask:")));
    sizes = SizesOf(256);
    sizes.row_weight += static_cast<std::size_t>(delta);
    EXPECT_THAT(CheckChunk(plan_, 0, 256, sizes), StatusIs(kInvalid, HasSubstr("row_weight:")));
  }
  plan_.mask_row_bytes = 0;
  EXPECT_THAT(CheckChunk(plan_, 0, 256, SizesOf(256)), StatusIs(kInvalid, HasSubstr("mask:")));
}

TEST(ScoreKeyTest, HashesWhatItCompares) {
  ScoreKey base;
  std::vector<ScoreKey> keys(8, base);
  keys[1].loss = Loss::kSoftmaxCrossEntropy;
  keys[2].prediction = DType::kF16;
  keys[3].label.dtype = DType::kU8;
  keys[4].gradient = DType::kF32;
  keys[5].classes = 7;
  keys[6].class_last = false;
  keys[7].label.scale = LabelScale::kRowSum;
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(keys));
  for (std::size_t i = 1; i < keys.size(); ++i) EXPECT_FALSE(keys[i] == base) << i;
}

LossSpec Dice(Activation activation = Activation::kDefault, bool batch = false) {
  LossSpec spec;
  spec.loss = Loss::kSoftDice;
  spec.activation = activation;
  spec.batch = batch;
  return spec;
}

TEST(RegionalPlanTest, AnImageIsWhatAnIndexOfTheFirstDimensionHolds) {
  const auto image_rows = [](std::vector<std::int64_t> shape, std::optional<int> axis,
                             bool batch = false) {
    ItemShape item;
    item.shape = std::move(shape);
    item.class_axis = axis;
    return MakePlan(item, Dice(Activation::kDefault, batch))->leaf_rows;
  };
  EXPECT_EQ(image_rows({2, 5, 3, 4}, 1), 12);
  EXPECT_EQ(image_rows({2, 3, 4, 5}, -1), 12);
  EXPECT_EQ(image_rows({2, 5, 3, 4}, 1, true), 24);
  EXPECT_EQ(image_rows({3, 4, 5}, std::nullopt), 20);
  EXPECT_EQ(image_rows({3, 4, 5}, std::nullopt, true), 60);
  // No positions in an image: all of the tensor is one.
  EXPECT_EQ(image_rows({300, 5}, 1), 300);
  EXPECT_EQ(image_rows({300, 5, 1, 1}, 1), 300);
  EXPECT_EQ(image_rows({300}, std::nullopt), 300);
  EXPECT_EQ(image_rows({}, std::nullopt), 1);
  // The first dimension is the classes.
  EXPECT_EQ(image_rows({5, 30, 40}, 0), 1200);
  // Nothing at all.
  EXPECT_EQ(image_rows({0, 5}, 1), 1);
  EXPECT_EQ(image_rows({2, 5, 0}, 1), 1);
  EXPECT_EQ(image_rows({0, 7}, std::nullopt), 1);
}

TEST(RegionalPlanTest, HasALossForEachClassOfAnImage) {
  ItemShape item = Item();
  item.want_row_loss = true;
  const ItemPlan plan = *MakePlan(item, Dice());
  EXPECT_TRUE(plan.regional());
  EXPECT_EQ(plan.key.activation, Activation::kSoftmax);
  EXPECT_EQ(plan.row_loss_row_bytes, 0);
  EXPECT_EQ(plan.image_loss_bytes, 20);
  EXPECT_EQ(plan.row_loss_bytes(24), 40);
  EXPECT_EQ(plan.row_loss_bytes(12), 20);
  item.class_axis.reset();
  EXPECT_EQ(MakePlan(item, Dice())->key.activation, Activation::kSigmoid);
  EXPECT_FALSE(MakePlan(Item(), Softmax())->regional());
  EXPECT_EQ(MakePlan(Item(), Softmax())->key.activation, Activation::kDefault);
}

// Chunks are cut as those of other losses: an image may take many.
TEST(RegionalPlanTest, ChunksNeedNotBeImages) {
  ItemShape item;
  item.shape = {2, 5, 1000};
  item.class_axis = 1;
  const ItemPlan plan = *MakePlan(item, Dice());
  EXPECT_EQ(plan.leaf_rows, 1000);
  EXPECT_THAT(CheckChunk(plan, 256, 512, {512 * 20, 512 * 20}), IsOk());
  EXPECT_THAT(CheckChunk(plan, 0, 1000, {20000, 20000}),
              StatusIs(kInvalid, HasSubstr("chunk.rows: must be a multiple of 256")));
}

TEST(RegionalPlanTest, RefusesWhatHasNoMeaning) {
  ItemShape flat;
  flat.shape = {3, 40};
  EXPECT_THAT(
      MakePlan(flat, Dice(Activation::kSoftmax)),
      StatusIs(kInvalid,
               HasSubstr("prediction.class_axis: activation SOFTMAX needs one; was absent")));
  LossSpec renormalize = Dice();
  renormalize.label_check = LabelCheck::kRenormalize;
  EXPECT_THAT(MakePlan(flat, renormalize),
              StatusIs(kInvalid, HasSubstr("label_check: RENORMALIZE needs a class axis")));
  EXPECT_THAT(MakePlan(Item(), renormalize), IsOk());
  ItemShape sparse = Item();
  sparse.label = {.kind = LabelKind::kSparse, .k = 2, .tail = TailRule::kZero};
  EXPECT_THAT(MakePlan(sparse, Dice()),
              StatusIs(kInvalid, HasSubstr("label.kind: must be dense or class ids for soft_dice; "
                                           "was sparse")));
  ItemShape bytes = Item();
  bytes.label = {.dtype = DType::kU8, .scale = LabelScale::kRowSum};
  EXPECT_THAT(MakePlan(bytes, Dice()), IsOk());
  EXPECT_THAT(MakePlan(bytes, Dice(Activation::kSigmoid)),
              StatusIs(kInvalid, HasSubstr("label.scale: ROW_SUM")));
}

}  // namespace
}  // namespace softloss
