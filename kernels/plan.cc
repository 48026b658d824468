#include "kernels/plan.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

// Abseil may have been built with a string_view of its own.
std::string Str(std::string_view text) { return std::string(text); }

absl::Status CheckFloat(const char* field, DType dtype) {
  if (IsFloat(dtype)) return absl::OkStatus();
  return Invalid(absl::StrCat(field, ": must be float32, float16, bfloat16 or float64; was ",
                              Str(Name(dtype))));
}

// All but k, which depends on the number of classes.
absl::Status CheckSparse(const ItemShape& item, const LossSpec& spec) {
  const LabelFormat& label = item.label;
  if (!IsFloat(label.dtype) && label.dtype != DType::kU8) {
    return Invalid(
        absl::StrCat("label.dtype: values of sparse labels must be float32, float16, bfloat16, "
                     "float64 or uint8; "
                     "was ",
                     Str(Name(label.dtype))));
  }
  if (!IsInteger(label.id_dtype)) {
    return Invalid(
        absl::StrCat("label.id_dtype: must be int32 or int64; was ", Str(Name(label.id_dtype))));
  }
  if (label.scale != LabelScale::kDivideBy255) {
    return Invalid("label.scale: ROW_SUM applies to dense labels only; was set on sparse labels");
  }
  if (label.tail == TailRule::kNone || label.tail > TailRule::kZero) {
    return Invalid(absl::StrCat("label.tail: must be RENORMALIZE, UNIFORM, BUCKET or ZERO; was ",
                                static_cast<int>(label.tail)));
  }
  if (!item.class_axis.has_value()) {
    return Invalid("prediction.class_axis: sparse labels need one; was absent");
  }
  if (IsElementwise(spec.loss) && label.tail != TailRule::kZero) {
    return Invalid(absl::StrCat("label.tail: must be ZERO for ", Str(Name(spec.loss)),
                                ", which knows no distribution over classes; was ",
                                static_cast<int>(label.tail)));
  }
  if (spec.ignore_index.has_value()) {
    return Invalid(absl::StrCat("ignore_index: applies to class-id labels only; was ",
                                *spec.ignore_index, " with sparse labels"));
  }
  if (spec.ignore_value.has_value()) {
    return Invalid(absl::StrCat("ignore_value: applies to dense labels only; was ",
                                *spec.ignore_value, " with sparse labels"));
  }
  if (label.tail != TailRule::kBucket) return absl::OkStatus();
  // What these would do to a class that stands for many is anybody's guess.
  const char* const field = !spec.class_weight.empty()  ? "class_weight"
                            : !spec.class_mask.empty()  ? "class_mask"
                            : spec.label_smoothing != 0 ? "label_smoothing"
                                                        : nullptr;
  if (field == nullptr) return absl::OkStatus();
  return Invalid(
      absl::StrCat(field, ": does not apply to sparse labels with the tail BUCKET; was set"));
}

Activation ActivationOf(const ItemShape& item, const LossSpec& spec) {
  if (!IsRegional(spec.loss) || spec.activation != Activation::kDefault) return spec.activation;
  return item.class_axis.has_value() ? Activation::kSoftmax : Activation::kSigmoid;
}

// Whether labels are as good as those of elements: no distribution over classes.
bool HasElementLabels(const ItemShape& item, const LossSpec& spec) {
  return IsElementwise(spec.loss) || ActivationOf(item, spec) == Activation::kSigmoid;
}

absl::Status CheckRegional(const ItemShape& item, const LossSpec& spec) {
  if (!IsRegional(spec.loss)) return absl::OkStatus();
  if (item.label.kind == LabelKind::kSparse) {
    return Invalid(absl::StrCat("label.kind: must be dense or class ids for ", Str(Name(spec.loss)),
                                "; was sparse"));
  }
  if (item.class_axis.has_value()) return absl::OkStatus();
  if (spec.activation == Activation::kSoftmax) {
    return Invalid("prediction.class_axis: activation SOFTMAX needs one; was absent");
  }
  if (spec.label_check == LabelCheck::kRenormalize) {
    return Invalid(absl::StrCat("label_check: RENORMALIZE needs a class axis for ",
                                Str(Name(spec.loss)), "; was absent"));
  }
  return absl::OkStatus();
}

// What one index of the first dimension holds is an image, unless that is a row or a class.
std::int64_t ImageRows(const Geometry& geometry, const LossSpec& spec) {
  const std::int64_t images = std::min(geometry.batch, geometry.outer);
  if (spec.batch || images < 2 || geometry.rows() == images) {
    return std::max<std::int64_t>(1, geometry.rows());
  }
  return std::max<std::int64_t>(1, geometry.rows() / images);
}

absl::Status CheckLabel(const ItemShape& item, const LossSpec& spec) {
  const LabelFormat& label = item.label;
  const bool row_sum = label.scale == LabelScale::kRowSum;
  if (!row_sum && label.scale != LabelScale::kDivideBy255) {
    return Invalid(absl::StrCat("label.scale: must be DIVIDE_BY_255 or ROW_SUM; was ",
                                static_cast<int>(label.scale)));
  }
  switch (label.kind) {
    case LabelKind::kDense:
      if (!IsFloat(label.dtype) && label.dtype != DType::kU8) {
        return Invalid(absl::StrCat(
            "label.dtype: dense labels must be float32, float16, bfloat16, float64 or uint8; was ",
            Str(Name(label.dtype))));
      }
      if (row_sum && label.dtype != DType::kU8) {
        return Invalid(absl::StrCat("label.scale: ROW_SUM applies to uint8 labels only; was ",
                                    Str(Name(label.dtype))));
      }
      if (row_sum && HasElementLabels(item, spec)) {
        return Invalid(absl::StrCat(
            "label.scale: ROW_SUM applies to losses over the class axis; the loss was ",
            Str(Name(spec.loss)), IsRegional(spec.loss) ? " of sigmoids" : ""));
      }
      if (spec.ignore_index.has_value()) {
        return Invalid(absl::StrCat("ignore_index: applies to class-id labels only; was ",
                                    *spec.ignore_index, " with dense labels"));
      }
      return absl::OkStatus();
    case LabelKind::kClassId:
      if (!IsInteger(label.dtype)) {
        return Invalid(absl::StrCat("label.dtype: class ids must be int32 or int64; was ",
                                    Str(Name(label.dtype))));
      }
      if (row_sum) {
        return Invalid("label.scale: ROW_SUM applies to uint8 labels only; was set on class ids");
      }
      if (!item.class_axis.has_value()) {
        return Invalid("prediction.class_axis: class-id labels need one; was absent");
      }
      if (spec.ignore_value.has_value()) {
        return Invalid(absl::StrCat("ignore_value: applies to dense labels only; was ",
                                    *spec.ignore_value, " with class ids"));
      }
      return absl::OkStatus();
    case LabelKind::kSparse: return CheckSparse(item, spec);
  }
  return Invalid(absl::StrCat("label.kind: must be dense, class ids or sparse; was ",
                              static_cast<int>(label.kind)));
}

absl::Status CheckSize(const char* field, const char* tensor, std::int64_t rows,
                       std::int64_t row_bytes, std::size_t size) {
  const auto expected = static_cast<std::size_t>(rows * row_bytes);
  if (size == expected) return absl::OkStatus();
  return Invalid(absl::StrCat(field, ": ", rows, " rows of ", row_bytes, " bytes make ", expected,
                              " bytes of ", tensor, "; was ", size));
}

}  // namespace

Normalizer NormalizerOf(const LossSpec& spec, LabelKind labels) {
  if (spec.normalizer != Normalizer::kProfile) return spec.normalizer;
  if (IsRegional(spec.loss)) return Normalizer::kValid;
  if (spec.profile == Profile::kCaffe) {
    return IsElementwise(spec.loss) ? Normalizer::kBatch : Normalizer::kValid;
  }
  if (IsElementwise(spec.loss)) return Normalizer::kFull;
  if (labels == LabelKind::kClassId) return Normalizer::kWeighted;
  return spec.loss == Loss::kKlDivergence ? Normalizer::kElements : Normalizer::kFull;
}

absl::StatusOr<ItemPlan> MakePlan(const ItemShape& item, const LossSpec& spec) {
  if (absl::Status s = CheckFloat("prediction.dtype", item.prediction); !s.ok()) return s;
  if (item.gradient.has_value()) {
    if (absl::Status s = CheckFloat("gradient_dtype", *item.gradient); !s.ok()) return s;
  }
  if (absl::Status s = CheckRegional(item, spec); !s.ok()) return s;
  if (!IsElementwise(spec.loss) && !IsRegional(spec.loss) && !item.class_axis.has_value()) {
    return Invalid(
        absl::StrCat("prediction.class_axis: ", Str(Name(spec.loss)), " needs one; was absent"));
  }
  if (absl::Status s = CheckLabel(item, spec); !s.ok()) return s;
  absl::StatusOr<Geometry> geometry = MakeGeometry(item.shape, item.class_axis);
  if (!geometry.ok()) return geometry.status();

  const std::int64_t classes = geometry->classes;
  const bool sparse = item.label.kind == LabelKind::kSparse;
  if (sparse) {
    const std::int64_t most = std::min<std::int64_t>(classes, kMaxSparseClasses);
    if (item.label.k < 1 || item.label.k > most) {
      return Invalid(absl::StrCat("label.k: must be in [1, ", most, "] for ", classes,
                                  " classes; was ", item.label.k));
    }
  }
  if (!spec.class_weight.empty() &&
      static_cast<std::int64_t>(spec.class_weight.size()) != classes) {
    return Invalid(absl::StrCat("class_weight: must have one value a class, ", classes, "; had ",
                                spec.class_weight.size()));
  }
  if (spec.pos_weight.size() > 1 && static_cast<std::int64_t>(spec.pos_weight.size()) != classes) {
    return Invalid(absl::StrCat("pos_weight: must have one value, or one a class, ", classes,
                                "; had ", spec.pos_weight.size()));
  }

  if (!spec.class_mask.empty() && static_cast<std::int64_t>(spec.class_mask.size()) != classes) {
    return Invalid(absl::StrCat("class_mask: must have one value a class, ", classes, "; had ",
                                spec.class_mask.size()));
  }

  ItemPlan plan;
  plan.geometry = *geometry;
  plan.key.loss = spec.loss;
  plan.key.prediction = item.prediction;
  plan.key.label = item.label;
  if (!sparse) {  // what does not count must not tell keys apart
    plan.key.label.k = 0;
    plan.key.label.id_dtype = DType::kI64;
    plan.key.label.tail = TailRule::kNone;
  }
  plan.key.gradient = item.gradient;
  plan.key.classes = classes;
  plan.key.class_last = geometry->class_last();
  const LossParameters parameters = ParametersOf(spec);
  plan.key.general = spec.prediction_kind == PredictionKind::kProbabilities ||
                     parameters.temperature != 1 || parameters.z_loss != 0 ||
                     !spec.class_mask.empty();
  plan.key.activation = ActivationOf(item, spec);
  plan.has_mask = item.has_mask;
  plan.has_row_weight = item.has_row_weight;
  plan.want_row_loss = item.want_row_loss;
  plan.leaf_rows = IsRegional(spec.loss) ? ImageRows(*geometry, spec) : LeafRows(classes);

  // MakeGeometry caps elements, not classes: an axis of a tensor without rows may be of any length.
  // A row of all tensors takes less than 48 bytes a class: prediction, label values and ids, gradient,
  // row losses.
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (classes > kMax / 48 / std::max<std::int64_t>(1, geometry->rows())) {
    return Invalid(absl::StrCat("prediction.shape: the item must take less than 2^63 bytes; was ",
                                geometry->rows(), " rows of ", classes, " classes"));
  }
  const auto bytes = [](DType dtype) { return static_cast<std::int64_t>(SizeOf(dtype)); };
  plan.prediction_row_bytes = classes * bytes(item.prediction);
  plan.label_row_bytes = bytes(item.label.dtype) * (sparse ? item.label.k
                                                    : item.label.kind == LabelKind::kDense ? classes
                                                                                           : 1);
  plan.label_ids_row_bytes = sparse ? bytes(item.label.id_dtype) * item.label.k : 0;
  plan.mask_row_bytes = item.has_mask ? 1 : 0;
  plan.weight_row_bytes = item.has_row_weight ? 4 : 0;
  plan.gradient_row_bytes = item.gradient.has_value() ? classes * bytes(*item.gradient) : 0;
  if (item.want_row_loss && plan.regional()) {
    plan.image_loss_bytes = bytes(plan.row_loss_dtype()) * classes;
  } else if (item.want_row_loss) {
    plan.row_loss_row_bytes =
        bytes(plan.row_loss_dtype()) * (IsElementwise(spec.loss) ? classes : 1);
  }
  return plan;
}

absl::Status CheckChunk(const ItemPlan& plan, std::int64_t row_begin, std::int64_t rows,
                        const ChunkSizes& sizes) {
  const std::int64_t total = plan.geometry.rows();
  if (row_begin < 0 || row_begin > total) {
    return Invalid(absl::StrCat("chunk.row_begin: must be in [0, ", total, "]; was ", row_begin));
  }
  if (rows < 0 || rows > total - row_begin || (rows == 0 && total != 0)) {
    return Invalid(absl::StrCat("chunk.rows: must be in [", total == 0 ? 0 : 1, ", ",
                                total - row_begin, "] from row ", row_begin, "; was ", rows));
  }
  const std::int64_t leaf_rows = LeafRows(plan.geometry.classes);
  if (row_begin % leaf_rows != 0) {
    return Invalid(absl::StrCat("chunk.row_begin: must be a multiple of ", leaf_rows,
                                " rows, a leaf; was ", row_begin));
  }
  if (rows % leaf_rows != 0 && row_begin + rows != total) {
    return Invalid(absl::StrCat("chunk.rows: must be a multiple of ", leaf_rows,
                                " rows, a leaf, except in the last chunk; was ", rows));
  }
  for (const absl::Status& status :
       {CheckSize("prediction", "prediction", rows, plan.prediction_row_bytes, sizes.prediction),
        CheckSize("label", "label", rows, plan.label_row_bytes, sizes.label),
        CheckSize("label_ids", "label ids", rows, plan.label_ids_row_bytes, sizes.label_ids),
        CheckSize("mask", "mask", rows, plan.mask_row_bytes, sizes.mask),
        CheckSize("row_weight", "row weight", rows, plan.weight_row_bytes, sizes.row_weight)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace softloss
