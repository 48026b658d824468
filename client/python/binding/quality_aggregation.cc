#include "client/python/binding/quality_aggregation.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>

#include "absl/strings/str_cat.h"
#include "client/python/binding/columns.h"
#include "client/python/binding/quality_votes.h"
#include "client/python/binding/status.h"
#include "client/python/binding/thread_executor.h"
#include "kernels/annotation/crowdlab.h"
#include "kernels/annotation/dawid_skene.h"
#include "kernels/annotation/pixels.h"
#include "kernels/annotation/segmentation.h"
#include "kernels/annotation/segmentation_em.h"

namespace softloss::python {
namespace {

using annotation::Column;
using annotation::Distributions;
using annotation::VoteColumns;

int Threads(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency());
}

// Runs work() -> StatusOr<columns> without the GIL.
template <typename Work>
nb::dict Columns(Work work) {
  absl::StatusOr<std::vector<Column>> columns;
  {
    nb::gil_scoped_release release;
    columns = work();
  }
  if (!columns.ok()) Raise(columns.status());
  return ToDict(*std::move(columns));
}

Column Doubles(std::string name, std::vector<std::int64_t> shape, std::vector<double> values) {
  return {std::move(name), std::move(shape), std::move(values)};
}
template <typename T>
Column Integers(std::string name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return {std::move(name), std::move(shape),
          std::vector<std::int64_t>(values.begin(), values.end())};
}

std::optional<Distributions> Given(const std::optional<Matrix>& rows) {
  return rows.has_value() ? std::optional(FromRows(*rows)) : std::nullopt;
}

nb::dict DawidSkene(std::int64_t num_items, int num_annotators, int num_classes,
                    const Vector<std::int64_t>& item, const Vector<std::int32_t>& annotator,
                    const std::optional<Vector<std::int32_t>>& label,
                    const std::optional<Matrix>& probabilities,
                    const std::optional<Vector<double>>& weight, const std::optional<Matrix>& gold,
                    const std::optional<Matrix>& start, double tolerance, int max_iterations,
                    double smoothing, double prior_smoothing, int threads) {
  const VoteColumns columns{num_classes,           num_items,         num_annotators,
                            SpanOf(item),          SpanOf(annotator), SpanOf(label),
                            SpanOf(probabilities), SpanOf(weight),    {}};
  const annotation::DawidSkeneOptions options{tolerance, max_iterations, smoothing,
                                              prior_smoothing};
  return Columns([&]() -> absl::StatusOr<std::vector<Column>> {
    ThreadExecutor executor(Threads(threads));
    const absl::StatusOr<annotation::Votes> votes = annotation::Votes::Create(columns);
    if (!votes.ok()) return votes.status();
    const std::optional<Distributions> answers = Given(gold);
    absl::StatusOr<annotation::DawidSkene> fit = annotation::FitDawidSkene(
        *votes, answers ? &*answers : nullptr, {.posterior = SpanOf(start)}, options, executor);
    if (!fit.ok()) return fit.status();
    const std::int64_t states = fit->model.num_states, people = num_annotators;
    const auto iterations = static_cast<std::int64_t>(fit->log_likelihood.size());
    return std::vector<Column>{
        Doubles("posterior", {num_items, states}, std::move(fit->consensus.posterior)),
        Doubles("skill", {people}, std::move(fit->consensus.skill)),
        Doubles("prior", {states}, std::move(fit->model.prior)),
        Doubles("confusion", {people, states, num_classes}, std::move(fit->model.confusion)),
        Doubles("log_likelihood", {iterations}, std::move(fit->log_likelihood)),
        Integers("converged", {}, std::vector<int>{fit->converged})};
  });
}

nb::dict Crowdlab(std::int64_t num_items, int num_annotators, int num_classes,
                  const Vector<std::int64_t>& item, const Vector<std::int32_t>& annotator,
                  const std::optional<Vector<std::int32_t>>& label,
                  const std::optional<Matrix>& probabilities,
                  const std::optional<Vector<double>>& weight,
                  const std::optional<Matrix>& predictions, int threads) {
  const VoteColumns columns{num_classes,           num_items,         num_annotators,
                            SpanOf(item),          SpanOf(annotator), SpanOf(label),
                            SpanOf(probabilities), SpanOf(weight),    {}};
  return Columns([&]() -> absl::StatusOr<std::vector<Column>> {
    ThreadExecutor executor(Threads(threads));
    const absl::StatusOr<annotation::Votes> votes = annotation::Votes::Create(columns);
    if (!votes.ok()) return votes.status();
    const std::optional<Distributions> model = Given(predictions);
    const Distributions* const given = model ? &*model : nullptr;
    absl::StatusOr<annotation::Crowdlab> fit = annotation::FitCrowdlab(*votes, given, executor);
    if (!fit.ok()) return fit.status();
    std::vector<double> active = annotation::ActiveLabScores(*votes, given, *fit);
    const std::int64_t people = num_annotators;
    return std::vector<Column>{
        Doubles("posterior", {num_items, num_classes}, std::move(fit->consensus.posterior)),
        Integers("label", {num_items}, fit->label),
        Doubles("quality", {num_items}, std::move(fit->quality)),
        Doubles("agreement", {num_items}, std::move(fit->agreement)),
        Doubles("active_lab", {num_items}, std::move(active)),
        Doubles("annotator_quality", {people}, std::move(fit->consensus.skill)),
        Doubles("agreement_with_consensus", {people}, std::move(fit->agreement_with_consensus)),
        Integers("worst_class", {people}, fit->worst_class),
        Doubles("annotator_weight", {people}, std::move(fit->weight)),
        Doubles("model_weight", {}, {fit->model_weight})};
  });
}

using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// [shape] of what a vector holds, which the array then owns.
nb::object Bytes(std::vector<std::uint8_t> values, const std::vector<std::size_t>& shape) {
  auto owned = std::make_unique<std::vector<std::uint8_t>>(std::move(values));
  std::uint8_t* const data = owned->data();
  nb::capsule owner(owned.release(),
                    [](void* p) noexcept { delete static_cast<std::vector<std::uint8_t>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, std::uint8_t>(data, shape.size(), shape.data(), owner));
}

nb::dict SegmentationEm(const Pixels& masks, int max_iterations, double tolerance) {
  const auto readers = static_cast<int>(masks.shape(1));
  std::vector<std::uint8_t> mask;
  nb::dict out = Columns([&]() -> absl::StatusOr<std::vector<Column>> {
    absl::StatusOr<annotation::SegmentationEm> fit =
        annotation::FitSegmentationEm({.value = SpanOf(masks), .readers = readers},
                                      {.max_iterations = max_iterations, .tolerance = tolerance});
    if (!fit.ok()) return fit.status();
    mask = std::move(fit->mask);
    return std::vector<Column>{Doubles("posterior", {static_cast<std::int64_t>(mask.size())},
                                       {fit->posterior.begin(), fit->posterior.end()}),
                               Doubles("accuracy", {readers}, std::move(fit->accuracy)),
                               Integers("iterations", {}, std::vector<int>{fit->iterations})};
  });
  out["mask"] = Bytes(std::move(mask), {masks.shape(0)});
  return out;
}

double PixelAlpha(const Pixels& masks, int threads) {
  // α is that of any scale: 255 takes all values.
  const annotation::ReaderMasks input{SpanOf(masks), static_cast<int>(masks.shape(1)), 255};
  if (auto s = annotation::Validate(input); !s.ok()) Raise(s);
  nb::gil_scoped_release release;
  ThreadExecutor executor(Threads(threads));
  return annotation::SumPixels(input, executor).Alpha(input.readers);
}

using Probabilities = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

nb::dict SegmentationIssues(const Pixels& label, const Probabilities& probabilities,
                            double temperature, int threads) {
  const std::size_t images = label.shape(0), pixels = label.shape(1);
  const annotation::Segmentation<float, std::uint8_t> input{
      static_cast<int>(probabilities.shape(1)), static_cast<std::int64_t>(images),
      static_cast<std::int64_t>(pixels), SpanOf(probabilities), SpanOf(label)};
  std::vector<std::uint8_t> issue(images * pixels);
  nb::dict out = Columns([&]() -> absl::StatusOr<std::vector<Column>> {
    ThreadExecutor executor(Threads(threads));
    const auto scores = annotation::ScoreSegmentation<float, std::uint8_t>(
        input, temperature, {}, absl::MakeSpan(issue), executor);
    if (!scores.ok()) return scores.status();
    return std::vector<Column>{Doubles("image_score", {input.images}, scores->image_score),
                               Integers("image_issues", {input.images}, scores->image_issues)};
  });
  out["issue"] = Bytes(std::move(issue), {images, pixels});
  return out;
}

}  // namespace

void BindQualityAggregation(nb::module_& m) {
  const annotation::DawidSkeneOptions em;
  const annotation::SegmentationEmOptions masks;
  m.def("quality_dawid_skene", &DawidSkene, nb::kw_only(), nb::arg("num_items"),
        nb::arg("num_annotators"), nb::arg("num_classes"), nb::arg("item"), nb::arg("annotator"),
        nb::arg("label").none() = nb::none(), nb::arg("probabilities").none() = nb::none(),
        nb::arg("weight").none() = nb::none(), nb::arg("gold").none() = nb::none(),
        nb::arg("start").none() = nb::none(), nb::arg("tolerance") = em.tolerance,
        nb::arg("max_iterations") = em.max_iterations, nb::arg("smoothing") = em.smoothing,
        nb::arg("prior_smoothing") = em.prior_smoothing, nb::arg("threads") = 0);
  m.def("quality_crowdlab", &Crowdlab, nb::kw_only(), nb::arg("num_items"),
        nb::arg("num_annotators"), nb::arg("num_classes"), nb::arg("item"), nb::arg("annotator"),
        nb::arg("label").none() = nb::none(), nb::arg("probabilities").none() = nb::none(),
        nb::arg("weight").none() = nb::none(), nb::arg("predictions").none() = nb::none(),
        nb::arg("threads") = 0);
  m.def("quality_segmentation_em", &SegmentationEm, nb::arg("masks"), nb::kw_only(),
        nb::arg("max_iterations") = masks.max_iterations, nb::arg("tolerance") = masks.tolerance);
  m.def("quality_pixel_alpha", &PixelAlpha, nb::arg("masks"), nb::kw_only(),
        nb::arg("threads") = 0);
  m.def("quality_segmentation_issues", &SegmentationIssues, nb::arg("label"),
        nb::arg("probabilities"), nb::kw_only(),
        nb::arg("temperature") = annotation::kSoftMinTemperature, nb::arg("threads") = 0);
}

}  // namespace softloss::python
