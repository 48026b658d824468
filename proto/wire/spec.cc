#include "proto/wire/spec.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/unknown_field_set.h"

namespace softloss {
namespace {

constexpr int kMaxDimensions = 32;

struct Unbuilt {
  absl::string_view field;
  bool (*used)(const v1::Item&);
};

// What this version refuses. One row a field; UnimplementedFields() lists the same rows.
constexpr Unbuilt kUnbuilt[] = {
    {"item.label.stored", [](auto& m) { return m.label().has_stored(); }},
    {"item.priority", [](auto& m) { return m.priority() != 0; }},
    {"item.run_id", [](auto& m) { return !m.run_id().empty(); }},
    {"item.gradient_int8", [](auto& m) { return m.gradient_int8(); }},
};

absl::Status CheckBuilt(const v1::Item& message) {
  for (const Unbuilt& row : kUnbuilt) {
    if (row.used(message)) {
      return absl::UnimplementedError(absl::StrCat(row.field, ": not implemented by this server"));
    }
  }
  return absl::OkStatus();
}

// A field of a later contract may change the result, so it is refused rather than ignored.
absl::Status CheckKnown(absl::string_view path, const google::protobuf::Message& message) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  if (unknown.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(path, ": field number ", unknown.field(0).number(),
                                               " is not known to this server"));
}

// Enums whose values on both sides are 1…last. Unspecified gives `fallback`.
template <typename To>
absl::Status ReadEnum(absl::string_view field, int value, To fallback, To last, To* out) {
  if (value < 0 || value > static_cast<int>(last)) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": unknown value ", value));
  }
  *out = value == 0 ? fallback : static_cast<To>(value);
  return absl::OkStatus();
}

// Any dtype that tensors have; which ones a tensor may have is MakePlan's to check.
absl::Status ReadDType(absl::string_view field, int value, DType* out) {
  if (value >= v1::FLOAT32 && value <= v1::INT64) {
    *out = static_cast<DType>(value);
    return absl::OkStatus();
  }
  if (value == v1::DTYPE_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": must be given"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      field, value == v1::INT8 ? ": no tensor has values of type " : ": unknown value ",
      value == v1::INT8 ? "INT8" : absl::StrCat(value)));
}

absl::Status ReadSparse(const v1::SparseLabel& message, LabelFormat* out) {
  out->kind = LabelKind::kSparse;
  out->k = message.k();
  for (const absl::Status& s : {
           CheckKnown("item.label.sparse", message),
           ReadDType("item.label.sparse.value_dtype", message.value_dtype(), &out->dtype),
           ReadDType("item.label.sparse.id_dtype", message.id_dtype(), &out->id_dtype),
       }) {
    if (!s.ok()) return s;
  }
  if (message.tail() == v1::TAIL_SAMPLED_WEIGHTS) {
    return absl::UnimplementedError(
        "item.label.sparse.tail: TAIL_SAMPLED_WEIGHTS: not implemented by this server");
  }
  if (message.tail() == v1::TAIL_RULE_UNSPECIFIED) {
    return absl::InvalidArgumentError("item.label.sparse.tail: must be given");
  }
  return ReadEnum("item.label.sparse.tail", message.tail(), TailRule::kNone, TailRule::kZero,
                  &out->tail);
}

absl::Status ReadLabel(const v1::Label& message, LabelFormat* out) {
  switch (message.kind_case()) {
    case v1::Label::kDense:
      out->kind = LabelKind::kDense;
      if (absl::Status s = CheckKnown("item.label.dense", message.dense()); !s.ok()) return s;
      if (absl::Status s =
              ReadDType("item.label.dense.dtype", message.dense().dtype(), &out->dtype);
          !s.ok()) {
        return s;
      }
      return ReadEnum("item.label.dense.scale", message.dense().scale(), LabelScale::kDivideBy255,
                      LabelScale::kRowSum, &out->scale);
    case v1::Label::kClassId:
      out->kind = LabelKind::kClassId;
      if (absl::Status s = CheckKnown("item.label.class_id", message.class_id()); !s.ok()) return s;
      return ReadDType("item.label.class_id.dtype", message.class_id().dtype(), &out->dtype);
    case v1::Label::kSparse: return ReadSparse(message.sparse(), out);
    default: return absl::InvalidArgumentError("item.label: must be given");
  }
}

}  // namespace

absl::StatusOr<LossSpec> SpecFromProto(const v1::LossSpec& m) {
  if (absl::Status s = CheckKnown("spec", m); !s.ok()) return s;
  if (!v1::Loss_IsValid(m.loss())) {
    return absl::InvalidArgumentError(absl::StrCat("spec.loss: unknown value ", m.loss()));
  }
  if (m.loss() == v1::LOSS_UNSPECIFIED) {
    return absl::InvalidArgumentError("spec.loss: must be given");
  }
  if (m.loss() > static_cast<int>(kLastLoss)) {
    return absl::UnimplementedError(
        absl::StrCat("spec.loss: ", v1::Loss_Name(m.loss()), ": not implemented by this server"));
  }

  LossSpec spec;
  spec.loss = static_cast<Loss>(m.loss());
  for (const absl::Status& s : {
           ReadEnum("spec.reduction", m.reduction(), Reduction::kMean, Reduction::kMean,
                    &spec.reduction),
           ReadEnum("spec.profile", m.profile(), Profile::kNone, Profile::kCaffe, &spec.profile),
           ReadEnum(
               "spec.normalizer", m.normalizer(),
               m.profile() == v1::PROFILE_UNSPECIFIED ? Normalizer::kValid : Normalizer::kProfile,
               kLastNormalizer, &spec.normalizer),
           ReadEnum("spec.label_check", m.label_check(), LabelCheck::kReport,
                    LabelCheck::kRenormalize, &spec.label_check),
           ReadEnum("spec.prediction_kind", m.prediction_kind(), PredictionKind::kLogits,
                    PredictionKind::kProbabilities, &spec.prediction_kind),
           ReadEnum("spec.activation", m.activation(), Activation::kDefault, Activation::kSoftmax,
                    &spec.activation),
       }) {
    if (!s.ok()) return s;
  }
  spec.label_smoothing = m.label_smoothing();
  spec.class_weight.assign(m.class_weight().begin(), m.class_weight().end());
  spec.pos_weight.assign(m.pos_weight().begin(), m.pos_weight().end());
  if (m.has_ignore_value()) spec.ignore_value = m.ignore_value();
  if (m.has_ignore_index()) spec.ignore_index = m.ignore_index();
  spec.class_mask.assign(m.class_mask().begin(), m.class_mask().end());
  if (m.has_temperature()) spec.temperature = m.temperature();
  if (m.has_z_loss()) spec.z_loss = m.z_loss();
  if (m.has_alpha()) spec.alpha = m.alpha();
  if (m.has_beta()) spec.beta = m.beta();
  if (m.has_gamma()) spec.gamma = m.gamma();
  if (m.has_epsilon()) spec.epsilon = m.epsilon();
  if (m.has_q()) spec.q = m.q();
  if (m.has_smooth()) spec.smooth = m.smooth();
  spec.batch = m.batch();
  if (absl::Status s = Validate(spec); !s.ok()) return s;
  return spec;
}

absl::StatusOr<ItemShape> ItemFromProto(const v1::Item& m) {
  ItemShape item;
  for (const absl::Status& s : {
           CheckKnown("item", m),
           CheckKnown("item.prediction", m.prediction()),
           CheckKnown("item.prediction_memory", m.prediction_memory()),
           CheckKnown("item.label_memory", m.label_memory()),
           CheckKnown("item.gradient_memory", m.gradient_memory()),
           CheckBuilt(m),
           ReadDType("item.prediction.dtype", m.prediction().dtype(), &item.prediction),
           ReadLabel(m.label(), &item.label),
       }) {
    if (!s.ok()) return s;
  }
  const v1::Tensor& prediction = m.prediction();
  if (prediction.shape_size() > kMaxDimensions) {
    return absl::InvalidArgumentError(absl::StrCat("item.prediction.shape: must have at most ",
                                                   kMaxDimensions, " dimensions; has ",
                                                   prediction.shape_size()));
  }
  item.shape.assign(prediction.shape().begin(), prediction.shape().end());
  if (prediction.has_class_axis()) item.class_axis = prediction.class_axis();
  if (m.gradient_dtype() != v1::DTYPE_UNSPECIFIED) {
    DType dtype;
    if (absl::Status s = ReadDType("item.gradient_dtype", m.gradient_dtype(), &dtype); !s.ok()) {
      return s;
    }
    item.gradient = dtype;
  }
  item.has_mask = m.has_mask();
  item.has_row_weight = m.has_row_weight();
  item.want_row_loss = m.want_row_loss();
  return item;
}

void ToProto(const LossSpec& spec, v1::LossSpec* m) {
  m->Clear();
  m->set_loss(static_cast<v1::Loss>(spec.loss));
  m->set_reduction(static_cast<v1::Reduction>(spec.reduction));
  m->set_profile(static_cast<v1::Profile>(spec.profile));
  m->set_normalizer(static_cast<v1::Normalizer>(spec.normalizer));
  m->set_label_check(static_cast<v1::LabelCheck>(spec.label_check));
  m->set_label_smoothing(spec.label_smoothing);
  m->mutable_class_weight()->Add(spec.class_weight.begin(), spec.class_weight.end());
  m->mutable_pos_weight()->Add(spec.pos_weight.begin(), spec.pos_weight.end());
  if (spec.ignore_value) m->set_ignore_value(*spec.ignore_value);
  if (spec.ignore_index) m->set_ignore_index(*spec.ignore_index);
  m->set_prediction_kind(static_cast<v1::PredictionKind>(spec.prediction_kind));
  m->set_class_mask(spec.class_mask.data(), spec.class_mask.size());
  if (spec.temperature) m->set_temperature(*spec.temperature);
  if (spec.z_loss) m->set_z_loss(*spec.z_loss);
  if (spec.alpha) m->set_alpha(*spec.alpha);
  if (spec.beta) m->set_beta(*spec.beta);
  if (spec.gamma) m->set_gamma(*spec.gamma);
  if (spec.epsilon) m->set_epsilon(*spec.epsilon);
  if (spec.q) m->set_q(*spec.q);
  if (spec.smooth) m->set_smooth(*spec.smooth);
  m->set_activation(static_cast<v1::Activation>(spec.activation));
  m->set_batch(spec.batch);
}

void ToProto(const ItemShape& item, v1::Item* m) {
  v1::Tensor* prediction = m->mutable_prediction();
  prediction->Clear();
  prediction->set_dtype(static_cast<v1::DType>(item.prediction));
  prediction->mutable_shape()->Add(item.shape.begin(), item.shape.end());
  if (item.class_axis) prediction->set_class_axis(*item.class_axis);
  const auto label_dtype = static_cast<v1::DType>(item.label.dtype);
  switch (item.label.kind) {
    case LabelKind::kDense:
      m->mutable_label()->mutable_dense()->set_dtype(label_dtype);
      m->mutable_label()->mutable_dense()->set_scale(static_cast<v1::LabelScale>(item.label.scale));
      break;
    case LabelKind::kClassId: m->mutable_label()->mutable_class_id()->set_dtype(label_dtype); break;
    case LabelKind::kSparse: {
      v1::SparseLabel* sparse = m->mutable_label()->mutable_sparse();
      sparse->set_k(item.label.k);
      sparse->set_value_dtype(label_dtype);
      sparse->set_id_dtype(static_cast<v1::DType>(item.label.id_dtype));
      sparse->set_tail(static_cast<v1::TailRule>(item.label.tail));
      break;
    }
  }
  m->set_gradient_dtype(item.gradient ? static_cast<v1::DType>(*item.gradient)
                                      : v1::DTYPE_UNSPECIFIED);
  m->set_has_mask(item.has_mask);
  m->set_has_row_weight(item.has_row_weight);
  m->set_want_row_loss(item.want_row_loss);
}

std::vector<std::string> UnimplementedFields() {
  std::vector<std::string> fields;
  for (const Unbuilt& row : kUnbuilt) fields.emplace_back(row.field);
  return fields;
}

std::string FieldOf(const absl::Status& status) {
  const absl::string_view text = status.message();
  const absl::string_view field = text.substr(0, text.find(':'));
  if (field.size() == text.size() || field.empty() || !absl::ascii_islower(field[0])) return "";
  for (const char c : field) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '_' && c != '.' && c != '[' &&
        c != ']') {
      return "";
    }
  }
  return std::string(field);
}

}  // namespace softloss
