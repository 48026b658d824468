#include "client/python/binding/request.h"

#include <map>
#include <utility>
#include <vector>

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/python/binding/status.h"
#include "kernels/loss.h"
#include "layout/geometry.h"

namespace softloss::python {
namespace {

using Shape = std::vector<std::int64_t>;

template <typename Array>
Shape ShapeOf(const Array& array) {
  return Shape(array.shape_ptr(), array.shape_ptr() + array.ndim());
}

std::string Print(const Shape& shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), shape.size() == 1 ? ",)" : ")");
}

[[noreturn]] void Refuse(absl::string_view field, const std::string& rule) {
  Raise(absl::InvalidArgumentError(absl::StrCat(field, ": ", rule)), std::string(field));
}

template <typename Array>
void CheckShape(absl::string_view field, absl::string_view meaning,
                const std::optional<Array>& array, const Shape& expected) {
  if (!array || ShapeOf(*array) == expected) return;
  Refuse(absl::StrCat(field, ".shape"),
         absl::StrCat("must be ", meaning, " ", Print(expected), "; was ", Print(ShapeOf(*array))));
}

DType DTypeOf(absl::string_view field, const std::string& name) {
  const std::optional<DType> dtype = ParseDType(name);
  if (!dtype) Refuse(absl::StrCat(field, ".dtype"), absl::StrCat("unknown; was ", name));
  return *dtype;
}

template <typename E>
using Names = std::initializer_list<std::pair<const char*, E>>;

constexpr Names<TailRule> kTails = {{"renormalize", TailRule::kRenormalize},
                                    {"uniform", TailRule::kUniform},
                                    {"bucket", TailRule::kBucket},
                                    {"zero", TailRule::kZero}};

template <typename E>
E Parse(const char* field, const std::string& name, Names<E> names) {
  for (const auto& [n, value] : names) {
    if (n == name) return value;
  }
  Refuse(field,
         absl::StrCat(
             "must be one of ",
             absl::StrJoin(names, ", ", [](std::string* out, const auto& n) { *out += n.first; }),
             "; was ", name));
}

}  // namespace

const char* TailName(TailRule tail) {
  for (const auto& [name, value] : kTails) {
    if (value == tail) return name;
  }
  return "";
}

namespace {

// Parameters as Python's keywords name them.
using Named = std::map<std::string, float>;

void SetParameter(const std::string& name, float value, LossSpec& spec) {
  for (const ParameterRule& rule : Parameters(spec.loss)) {
    if (rule.name == name) {
      spec.*rule.member = value;
      return;
    }
  }
  Refuse(name, absl::StrCat("does not apply to ", std::string(Name(spec.loss)), "; was ", value));
}

LossSpec MakeSpec(const std::string& loss, const std::string& reduction,
                  const std::optional<std::string>& normalizer, const std::string& label_check,
                  float label_smoothing, std::vector<float> class_weight,
                  std::vector<float> pos_weight, std::optional<double> ignore_value,
                  std::optional<std::int64_t> ignore_index, std::vector<std::uint8_t> class_mask,
                  const std::string& prediction_kind, const std::optional<std::string>& profile,
                  const std::optional<std::string>& activation, bool batch,
                  const Named& parameters) {
  LossSpec spec;
  const std::optional<Loss> parsed = ParseLoss(loss);
  if (!parsed) Refuse("loss", absl::StrCat("unknown; was ", loss));
  spec.loss = *parsed;
  spec.reduction = Parse<Reduction>(
      "reduction", reduction,
      {{"none", Reduction::kNone}, {"sum", Reduction::kSum}, {"mean", Reduction::kMean}});
  if (profile) {
    spec.profile = Parse<Profile>("profile", *profile,
                                  {{"torch", Profile::kTorch}, {"caffe", Profile::kCaffe}});
  }
  if (normalizer) {
    spec.normalizer = Parse<Normalizer>("normalizer", *normalizer,
                                        {{"none", Normalizer::kNone},
                                         {"full", Normalizer::kFull},
                                         {"valid", Normalizer::kValid},
                                         {"batch", Normalizer::kBatch},
                                         {"weighted", Normalizer::kWeighted},
                                         {"elements", Normalizer::kElements}});
  } else if (profile) {
    spec.normalizer = Normalizer::kProfile;
  }
  spec.label_check = Parse<LabelCheck>("label_check", label_check,
                                       {{"report", LabelCheck::kReport},
                                        {"strict", LabelCheck::kStrict},
                                        {"renormalize", LabelCheck::kRenormalize}});
  spec.label_smoothing = label_smoothing;
  spec.class_weight = std::move(class_weight);
  spec.pos_weight = std::move(pos_weight);
  spec.ignore_value = ignore_value;
  spec.ignore_index = ignore_index;
  spec.class_mask = std::move(class_mask);
  spec.prediction_kind = Parse<PredictionKind>(
      "prediction_kind", prediction_kind,
      {{"logits", PredictionKind::kLogits}, {"probabilities", PredictionKind::kProbabilities}});
  if (activation) {
    spec.activation =
        Parse<Activation>("activation", *activation,
                          {{"sigmoid", Activation::kSigmoid}, {"softmax", Activation::kSoftmax}});
  }
  spec.batch = batch;
  for (const auto& [name, value] : parameters) SetParameter(name, value, spec);
  if (const absl::Status status = Validate(spec); !status.ok()) Raise(status);
  return spec;
}

Shape RowsOf(Shape shape, std::optional<int> class_axis) {
  if (class_axis) {
    shape.erase(shape.begin() +
                (*class_axis < 0 ? *class_axis + static_cast<int>(shape.size()) : *class_axis));
  }
  return shape;
}

// An element each, a row each, or [images, classes].
Shape RowLossShape(const LossSpec& spec, const Shape& shape, std::optional<int> class_axis) {
  if (IsElementwise(spec.loss)) return shape;
  if (!IsRegional(spec.loss)) return RowsOf(shape, class_axis);
  ItemShape item;
  item.shape = shape;
  item.class_axis = class_axis;
  LossSpec regions;  // what says which they are
  regions.loss = spec.loss;
  regions.activation = spec.activation;
  regions.batch = spec.batch;
  const absl::StatusOr<ItemPlan> plan = MakePlan(item, regions);
  if (!plan.ok()) Raise(plan.status());
  return {plan->geometry.rows() / plan->leaf_rows, plan->geometry.classes};
}

}  // namespace

Request::Request(const LossSpec& spec, InputArray prediction_in,
                 const std::string& prediction_dtype, std::optional<int> class_axis,
                 InputArray label_in, const std::string& label_dtype, bool label_is_class_ids,
                 bool label_row_sum, std::optional<InputArray> mask_in,
                 std::optional<InputArray> row_weight_in, std::optional<OutputArray> gradient_in,
                 const std::string& gradient_dtype, std::optional<OutputArray> row_loss_in,
                 std::optional<InputArray> label_ids_in, const std::string& label_ids_dtype,
                 const std::optional<std::string>& tail)
    : prediction(std::move(prediction_in)),
      label(std::move(label_in)),
      label_ids(std::move(label_ids_in)),
      mask(std::move(mask_in)),
      row_weight(std::move(row_weight_in)),
      gradient(std::move(gradient_in)),
      row_loss(std::move(row_loss_in)) {
  item.shape = ShapeOf(*prediction);
  item.class_axis = class_axis;
  item.prediction = DTypeOf("prediction", prediction_dtype);
  item.label.kind = label_is_class_ids ? LabelKind::kClassId : LabelKind::kDense;
  item.label.dtype = DTypeOf("label", label_dtype);
  item.label.scale = label_row_sum ? LabelScale::kRowSum : LabelScale::kDivideBy255;
  if (tail) {
    item.label.kind = LabelKind::kSparse;
    item.label.id_dtype = DTypeOf("label_ids", label_ids_dtype);
    item.label.tail = Parse<TailRule>("label.tail", *tail, kTails);
    item.label.k =
        label->ndim() == 0 ? 0 : static_cast<std::int32_t>(label->shape(label->ndim() - 1));
  }
  if (!gradient_dtype.empty()) item.gradient = DTypeOf("gradient", gradient_dtype);
  item.has_mask = mask.has_value();
  item.has_row_weight = row_weight.has_value();
  item.want_row_loss = row_loss.has_value();

  if (const auto geometry = MakeGeometry(item.shape, class_axis); !geometry.ok()) {
    Raise(geometry.status());
  }
  const Shape rows = RowsOf(item.shape, class_axis);
  if (tail) {
    Shape entries = rows;
    entries.push_back(item.label.k);
    CheckShape("label", "the rows' shape and then k,", label, entries);
    CheckShape("label_ids", "the values' shape", label_ids, entries);
  } else if (label_is_class_ids) {
    CheckShape("label", "one class id a row,", label, rows);
  } else {
    CheckShape("label", "the prediction's shape", label, item.shape);
  }
  CheckShape("mask", "the rows' shape", mask, rows);
  CheckShape("row_weight", "the rows' shape", row_weight, rows);
  CheckShape("out", "the prediction's shape", gradient, item.shape);
  if (row_loss) {
    CheckShape("row_loss", "one loss a row, element or region,", row_loss,
               RowLossShape(spec, item.shape, class_axis));
  }
  const auto check_size = [](absl::string_view field, const auto& array, DType dtype) {
    if (array && array->itemsize() != SizeOf(dtype)) {
      Refuse(absl::StrCat(field, ".dtype"),
             absl::StrCat("must have ", SizeOf(dtype), " bytes; has ", array->itemsize()));
    }
  };
  check_size("prediction", prediction, item.prediction);
  check_size("label", label, item.label.dtype);
  check_size("label_ids", label_ids, item.label.id_dtype);
  check_size("mask", mask, DType::kU8);
  check_size("row_weight", row_weight, DType::kF32);
  if (gradient) check_size("out", gradient, *item.gradient);
  check_size("row_loss", row_loss, item.prediction == DType::kF64 ? DType::kF64 : DType::kF32);
}

void BindRequest(nb::module_& m) {
  nb::class_<LossSpec>(m, "Spec")
      .def(
          "__init__",
          [](LossSpec* self, const std::string& loss, const std::string& reduction,
             const std::optional<std::string>& normalizer, const std::string& label_check,
             float label_smoothing, std::vector<float> class_weight, std::vector<float> pos_weight,
             std::optional<double> ignore_value, std::optional<std::int64_t> ignore_index,
             std::vector<std::uint8_t> class_mask, const std::string& prediction_kind,
             const std::optional<std::string>& profile,
             const std::optional<std::string>& activation, bool batch, const Named& parameters) {
            new (self) LossSpec(MakeSpec(loss, reduction, normalizer, label_check, label_smoothing,
                                         std::move(class_weight), std::move(pos_weight),
                                         ignore_value, ignore_index, std::move(class_mask),
                                         prediction_kind, profile, activation, batch, parameters));
          },
          nb::arg("loss"), nb::arg("reduction"), nb::arg("normalizer").none(),
          nb::arg("label_check"), nb::arg("label_smoothing"), nb::arg("class_weight"),
          nb::arg("pos_weight"), nb::arg("ignore_value").none(), nb::arg("ignore_index").none(),
          nb::arg("class_mask"), nb::arg("prediction_kind"), nb::arg("profile").none(),
          nb::arg("activation").none(), nb::arg("batch"), nb::arg("parameters"))
      .def_prop_ro("elementwise", [](const LossSpec& spec) { return IsElementwise(spec.loss); })
      .def_prop_ro("regional", [](const LossSpec& spec) { return IsRegional(spec.loss); })
      .def("row_loss_shape", &RowLossShape, nb::arg("shape"), nb::arg("class_axis").none());

  nb::class_<Request>(m, "Request")
      .def(nb::init<const LossSpec&, InputArray, const std::string&, std::optional<int>, InputArray,
                    const std::string&, bool, bool, std::optional<InputArray>,
                    std::optional<InputArray>, std::optional<OutputArray>, const std::string&,
                    std::optional<OutputArray>, std::optional<InputArray>, const std::string&,
                    const std::optional<std::string>&>(),
           nb::arg("spec"), nb::arg("prediction").noconvert(), nb::arg("prediction_dtype"),
           nb::arg("class_axis").none(), nb::arg("label").noconvert(), nb::arg("label_dtype"),
           nb::arg("label_is_class_ids"), nb::arg("label_row_sum"), nb::arg("mask").none(),
           nb::arg("row_weight").none(), nb::arg("gradient").none(), nb::arg("gradient_dtype"),
           nb::arg("row_loss").none(), nb::arg("label_ids").none(), nb::arg("label_ids_dtype"),
           nb::arg("tail").none());
}

}  // namespace softloss::python
