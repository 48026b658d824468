#include "proto/wire/spec.h"

#include <cmath>
#include <functional>
#include <limits>

#include "google/protobuf/text_format.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;

template <typename Message>
Message Text(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

absl::StatusOr<LossSpec> Spec(const std::string& text) {
  return SpecFromProto(Text<v1::LossSpec>(text));
}
absl::StatusOr<ItemShape> Item(const std::string& text) {
  return ItemFromProto(Text<v1::Item>(text));
}

TEST(SpecTest, FillsInTheDefaults) {
  const absl::StatusOr<LossSpec> spec = Spec("loss: SOFTMAX_CROSS_ENTROPY");
  ASSERT_THAT(spec, IsOk());
  EXPECT_EQ(spec->loss, Loss::kSoftmaxCrossEntropy);
  EXPECT_EQ(spec->reduction, Reduction::kMean);
  EXPECT_EQ(spec->normalizer, Normalizer::kValid);
  EXPECT_EQ(spec->label_check, LabelCheck::kReport);
  EXPECT_EQ(spec->label_smoothing, 0);
  EXPECT_TRUE(spec->class_weight.empty());
  EXPECT_TRUE(spec->pos_weight.empty());
  EXPECT_FALSE(spec->ignore_value.has_value());
  EXPECT_FALSE(spec->ignore_index.has_value());
}

TEST(SpecTest, ReadsEveryField) {
  const absl::StatusOr<LossSpec> spec = Spec(
      "loss: SIGMOID_CROSS_ENTROPY reduction: NONE normalizer: WEIGHTED label_check: STRICT "
      "prediction_kind: LOGITS label_smoothing: 0.25 class_weight: [1, 2] pos_weight: 3 "
      "ignore_value: -1 ignore_index: -100");
  ASSERT_THAT(spec, IsOk());
  EXPECT_EQ(spec->loss, Loss::kSigmoidCrossEntropy);
  EXPECT_EQ(spec->reduction, Reduction::kNone);
  EXPECT_EQ(spec->normalizer, Normalizer::kWeighted);
  EXPECT_EQ(spec->label_check, LabelCheck::kStrict);
  EXPECT_EQ(spec->label_smoothing, 0.25f);
  EXPECT_THAT(spec->class_weight, ElementsAre(1, 2));
  EXPECT_THAT(spec->pos_weight, ElementsAre(3));
  EXPECT_EQ(spec->ignore_value, -1);
  EXPECT_EQ(spec->ignore_index, -100);
}

TEST(SpecTest, ComesBackFromTheWireUnchanged) {
  for (int n = 0; n < 60; ++n) {
    LossSpec spec;
    spec.loss = n % 2 ? Loss::kSigmoidCrossEntropy : Loss::kSoftmaxCrossEntropy;
    spec.reduction = static_cast<Reduction>(1 + n % 3);
    spec.normalizer = static_cast<Normalizer>(1 + n % 5);
    spec.label_check = n % 4 < 2 ? LabelCheck::kReport : LabelCheck::kStrict;
    spec.label_smoothing = n / 100.0f;
    spec.class_weight.assign(n % 3, 0.5f);
    if (n % 2) spec.pos_weight.assign(n % 4, 2.0f);
    if (n % 5 == 0) spec.ignore_value = n % 10 ? 255.0 : 0.0;
    if (n % 7 == 0) spec.ignore_index = n % 14 ? -100 : 0;
    if (n % 3 == 0) {
      spec.profile = n % 2 ? Profile::kTorch : Profile::kCaffe;
      if (n % 4 == 0) spec.normalizer = Normalizer::kProfile;
    }
    if (n % 11 == 0) {
      spec.prediction_kind = PredictionKind::kProbabilities;
      spec.class_mask = {1, 0, 2};
    }
    v1::LossSpec message;
    ToProto(spec, &message);
    const absl::StatusOr<LossSpec> back = SpecFromProto(message);
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(back->loss, spec.loss);
    EXPECT_EQ(back->reduction, spec.reduction);
    EXPECT_EQ(back->normalizer, spec.normalizer);
    EXPECT_EQ(back->profile, spec.profile);
    EXPECT_EQ(back->prediction_kind, spec.prediction_kind);
    EXPECT_EQ(back->class_mask, spec.class_mask);
    EXPECT_EQ(back->label_check, spec.label_check);
    EXPECT_EQ(back->label_smoothing, spec.label_smoothing);
    EXPECT_EQ(back->class_weight, spec.class_weight);
    EXPECT_EQ(back->pos_weight, spec.pos_weight);
    EXPECT_EQ(back->ignore_value, spec.ignore_value);
    EXPECT_EQ(back->ignore_index, spec.ignore_index);
  }
}

TEST(SpecTest, ParametersComeBackToo) {
  for (Loss loss : AllLosses()) {
    LossSpec spec;
    spec.loss = loss;
    for (const ParameterRule& rule : Parameters(loss)) spec.*rule.member = rule.high;
    v1::LossSpec message;
    ToProto(spec, &message);
    const absl::StatusOr<LossSpec> back = SpecFromProto(message);
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(back->loss, loss);
    for (const ParameterRule& rule : Parameters(loss)) {
      EXPECT_EQ(back.value().*rule.member, rule.high) << rule.name;
    }
  }
}

TEST(SpecTest, AProfileFillsInTheNormalizer) {
  EXPECT_EQ(Spec("loss: KL_DIVERGENCE profile: TORCH")->normalizer, Normalizer::kProfile);
  EXPECT_EQ(Spec("loss: KL_DIVERGENCE profile: TORCH normalizer: BATCH")->normalizer,
            Normalizer::kBatch);
}

TEST(SpecTest, KeepsANanToIgnore) {
  LossSpec spec;
  spec.ignore_value = std::numeric_limits<double>::quiet_NaN();
  v1::LossSpec message;
  ToProto(spec, &message);
  EXPECT_TRUE(std::isnan(*SpecFromProto(message)->ignore_value));
}

TEST(SpecTest, RefusesValuesWithoutAMeaning) {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"", "spec.loss: must be given"},
      {"loss: 99", "spec.loss: unknown value 99"},
      {"loss: 1 reduction: 4", "spec.reduction: unknown value 4"},
      {"loss: 1 normalizer: -1", "spec.normalizer: unknown value -1"},
      {"loss: 1 label_check: 9", "spec.label_check: unknown value 9"},
      {"loss: 1 prediction_kind: 3", "spec.prediction_kind: unknown value 3"},
      {"loss: 1 profile: 3", "spec.profile: unknown value 3"},
      {"loss: 1 label_smoothing: 1", "label_smoothing: must be in [0, 1)"},
      {"loss: 2 pos_weight: 1", "pos_weight:"},
      {"loss: 1 temperature: 2", "temperature: does not apply to sigmoid_cross_entropy; was 2"},
      {"loss: 5 beta: 2", "beta: must be in [0, 1] for jensen_shannon_divergence; was 2"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Spec(c.text), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(c.says)));
  }
}

TEST(SpecTest, RefusesALossThatItDoesNotKnow) {
  v1::LossSpec message;
  message.set_loss(static_cast<v1::Loss>(v1::Loss_MAX + 1));
  EXPECT_THAT(SpecFromProto(message),
              StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("spec.loss: unknown value")));
}

TEST(SpecTest, OptionsOfRegionsComeBack) {
  for (Activation activation : {Activation::kDefault, Activation::kSigmoid, Activation::kSoftmax}) {
    for (bool batch : {false, true}) {
      LossSpec spec;
      spec.loss = Loss::kSoftDice;
      spec.activation = activation;
      spec.batch = batch;
      v1::LossSpec message;
      ToProto(spec, &message);
      EXPECT_EQ(SpecFromProto(message)->activation, activation);
      EXPECT_EQ(SpecFromProto(message)->batch, batch);
    }
  }
}

// Every field of the contract is either honoured or refused by name; nothing is ignored.
TEST(SpecTest, RefusesEveryFieldThatIsNotBuilt) {
  const std::string base =
      "prediction { dtype: FLOAT32 shape: 4 } label { dense { dtype: FLOAT32 } } ";
  const std::vector<std::pair<std::string, std::string>> item_fields = {
      {"item.label.stored", "label { stored { set: 's' } }"},
      {"item.priority", "priority: 1"},
      {"item.run_id", "run_id: 'r'"},
      {"item.gradient_int8", "gradient_int8: true"},
  };
  const std::vector<std::string> listed = UnimplementedFields();
  EXPECT_EQ(listed.size(), item_fields.size());
  ASSERT_THAT(Item(base), IsOk());
  for (const auto& [field, text] : item_fields) {
    const absl::Status status =
        Item((text.starts_with("label {") ? base.substr(0, base.find("label")) : base) + text)
            .status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnimplemented, StartsWith(field + ":")));
    EXPECT_EQ(FieldOf(status), field);
    EXPECT_THAT(listed, Contains(field));
  }
}

TEST(SpecTest, RefusesFieldsOfALaterContract) {
  v1::LossSpec spec = Text<v1::LossSpec>("loss: SIGMOID_CROSS_ENTROPY");
  spec.GetReflection()->MutableUnknownFields(&spec)->AddVarint(77, 1);
  EXPECT_THAT(SpecFromProto(spec),
              StatusIs(absl::StatusCode::kUnimplemented, StartsWith("spec: field number 77")));
  v1::Item item =
      Text<v1::Item>("prediction { dtype: FLOAT32 } label { dense { dtype: FLOAT32 } }");
  auto* dense = item.mutable_label()->mutable_dense();
  dense->GetReflection()->MutableUnknownFields(dense)->AddVarint(9, 1);
  EXPECT_THAT(ItemFromProto(item), StatusIs(absl::StatusCode::kUnimplemented,
                                            StartsWith("item.label.dense: field number 9")));
}

TEST(ItemTest, ReadsEveryField) {
  const absl::StatusOr<ItemShape> item = Item(
      "spec_id: 3 prediction { dtype: BFLOAT16 shape: [2, 3, 4] class_axis: -2 } "
      "label { dense { dtype: UINT8 scale: ROW_SUM } } has_mask: true has_row_weight: true "
      "gradient_dtype: FLOAT16 want_row_loss: true request_key: 'k' required_numerics_id: 'n' "
      "allow_numerics_change: true timeout_ns: 5");
  ASSERT_THAT(item, IsOk());
  EXPECT_THAT(item->shape, ElementsAre(2, 3, 4));
  EXPECT_EQ(item->class_axis, -2);
  EXPECT_EQ(item->prediction, DType::kBF16);
  EXPECT_EQ(item->label, (LabelFormat{LabelKind::kDense, DType::kU8, LabelScale::kRowSum}));
  EXPECT_EQ(item->gradient, DType::kF16);
  EXPECT_TRUE(item->has_mask);
  EXPECT_TRUE(item->has_row_weight);
  EXPECT_TRUE(item->want_row_loss);
}

TEST(ItemTest, ReadsSparseLabels) {
  const std::string base = "prediction { dtype: FLOAT32 shape: [2, 30] class_axis: 1 } ";
  const auto read = [&](const std::string& sparse) {
    return Item(base + "label { sparse { " + sparse + " } }");
  };
  const absl::StatusOr<ItemShape> item =
      read("k: 5 id_dtype: INT32 value_dtype: FLOAT16 tail: TAIL_BUCKET");
  ASSERT_THAT(item, IsOk());
  EXPECT_EQ(item->label, (LabelFormat{.kind = LabelKind::kSparse,
                                      .dtype = DType::kF16,
                                      .k = 5,
                                      .id_dtype = DType::kI32,
                                      .tail = TailRule::kBucket}));
  const struct {
    const char* sparse;
    absl::StatusCode code;
    const char* message;
  } bad[] = {
      {"k: 5 id_dtype: INT32 value_dtype: FLOAT16 tail: TAIL_SAMPLED_WEIGHTS",
       absl::StatusCode::kUnimplemented, "item.label.sparse.tail: TAIL_SAMPLED_WEIGHTS"},
      {"k: 5 id_dtype: INT32 value_dtype: FLOAT16", absl::StatusCode::kInvalidArgument,
       "item.label.sparse.tail: must be given"},
      {"k: 5 id_dtype: INT32 value_dtype: FLOAT16 tail: 9", absl::StatusCode::kInvalidArgument,
       "item.label.sparse.tail: unknown value 9"},
      {"k: 5 value_dtype: FLOAT16 tail: TAIL_ZERO", absl::StatusCode::kInvalidArgument,
       "item.label.sparse.id_dtype: must be given"},
      {"k: 5 id_dtype: INT32 tail: TAIL_ZERO", absl::StatusCode::kInvalidArgument,
       "item.label.sparse.value_dtype: must be given"},
  };
  for (const auto& c : bad) {
    EXPECT_THAT(read(c.sparse).status(), StatusIs(c.code, StartsWith(c.message)));
    EXPECT_NE(FieldOf(read(c.sparse).status()), "");
  }
}

TEST(ItemTest, ComesBackFromTheWireUnchanged) {
  for (int n = 0; n < 32; ++n) {
    ItemShape item;
    item.shape.assign(n % 4, n);
    if (n & 1) item.class_axis = n % 3 - 1;
    item.prediction = static_cast<DType>(1 + n % 4);
    item.label.dtype = static_cast<DType>(1 + n % 5);
    if (n & 2) item.label = {LabelKind::kClassId, n & 1 ? DType::kI32 : DType::kI64};
    if (n % 5 == 0) {
      item.label = {.kind = LabelKind::kSparse,
                    .dtype = DType::kBF16,
                    .k = n,
                    .id_dtype = n & 1 ? DType::kI32 : DType::kI64,
                    .tail = static_cast<TailRule>(1 + n % 4)};
    }
    if (n & 4) item.gradient = DType::kF64;
    item.has_mask = n & 8;
    item.has_row_weight = n & 16;
    item.want_row_loss = n & 1;
    v1::Item message;
    message.set_spec_id(9);
    ToProto(item, &message);
    EXPECT_EQ(message.spec_id(), 9u);
    const absl::StatusOr<ItemShape> back = ItemFromProto(message);
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(back->shape, item.shape);
    EXPECT_EQ(back->class_axis, item.class_axis);
    EXPECT_EQ(back->prediction, item.prediction);
    EXPECT_EQ(back->label, item.label);
    EXPECT_EQ(back->gradient, item.gradient);
    EXPECT_EQ(back->has_mask, item.has_mask);
    EXPECT_EQ(back->has_row_weight, item.has_row_weight);
    EXPECT_EQ(back->want_row_loss, item.want_row_loss);
  }
}

TEST(ItemTest, RefusesValuesWithoutAMeaning) {
  const std::string prediction = "prediction { dtype: FLOAT32 } ";
  const std::string label = "label { dense { dtype: FLOAT32 } } ";
  std::string dimensions;
  for (int i = 0; i < 33; ++i) dimensions += "shape: 1 ";
  const std::pair<std::string, const char*> cases[] = {
      {label, "item.prediction.dtype: must be given"},
      {"prediction { dtype: 12 } " + label, "item.prediction.dtype: unknown value 12"},
      {"prediction { dtype: INT8 } " + label, "item.prediction.dtype: no tensor"},
      {prediction, "item.label: must be given"},
      {prediction + "label {}", "item.label: must be given"},
      {prediction + "label { dense {} }", "item.label.dense.dtype: must be given"},
      {prediction + "label { dense { dtype: 1 scale: 3 } }", "item.label.dense.scale: unknown"},
      {prediction + "label { class_id { dtype: -1 } }", "item.label.class_id.dtype: unknown"},
      {prediction + label + "gradient_dtype: 20", "item.gradient_dtype: unknown value 20"},
      {"prediction { dtype: FLOAT32 " + dimensions + "} " + label,
       "item.prediction.shape: must have at most 32 dimensions; has 33"},
  };
  for (const auto& [text, says] : cases) {
    EXPECT_THAT(Item(text), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(says)));
  }
}

TEST(FieldOfTest, TakesAFieldPathAndNothingElse) {
  const auto field = [](const char* text) { return FieldOf(absl::InvalidArgumentError(text)); };
  EXPECT_EQ(field("label.dtype: class ids must be int32"), "label.dtype");
  EXPECT_EQ(field("spec.class_weight[3]: must be finite"), "spec.class_weight[3]");
  EXPECT_EQ(field("the stream broke: closed"), "");
  EXPECT_EQ(field("no colon"), "");
  EXPECT_EQ(field(": nothing"), "");
  EXPECT_EQ(field("Label: capital"), "");
  EXPECT_EQ(field(""), "");
  EXPECT_EQ(FieldOf(absl::OkStatus()), "");
}

}  // namespace
}  // namespace softloss
