#include "client/python/binding/quality_votes.h"

#include <nanobind/stl/optional.h>

namespace softloss::python {
namespace {

namespace nb = nanobind;
using annotation::Votes;

Votes Create(std::int64_t num_items, int num_annotators, int num_classes,
             const Vector<std::int64_t>& item, const Vector<std::int32_t>& annotator,
             const std::optional<Vector<std::int32_t>>& label,
             const std::optional<Matrix>& probabilities,
             const std::optional<Vector<double>>& weight,
             const std::optional<Vector<double>>& time) {
  absl::StatusOr<Votes> votes;
  {
    nb::gil_scoped_release release;
    votes = Votes::Create({.num_classes = num_classes,
                           .num_items = num_items,
                           .num_annotators = num_annotators,
                           .item = SpanOf(item),
                           .annotator = SpanOf(annotator),
                           .label = SpanOf(label),
                           .probabilities = SpanOf(probabilities),
                           .weight = SpanOf(weight),
                           .time = SpanOf(time)});
  }
  if (!votes.ok()) Raise(votes.status());
  return *std::move(votes);
}

}  // namespace

void BindQualityVotes(nb::module_& m) {
  nb::class_<Votes>(m, "QualityVotes")
      .def(nb::new_(&Create), nb::kw_only(), nb::arg("num_items"), nb::arg("num_annotators"),
           nb::arg("num_classes"), nb::arg("item"), nb::arg("annotator"),
           nb::arg("label").none() = nb::none(), nb::arg("probabilities").none() = nb::none(),
           nb::arg("weight").none() = nb::none(), nb::arg("time").none() = nb::none());
}

}  // namespace softloss::python
