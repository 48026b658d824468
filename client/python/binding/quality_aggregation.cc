#include "client/python/binding/quality_aggregation.h"

#include <optional>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/python/binding/quality_votes.h"
#include "kernels/annotation/crowdlab.h"
#include "kernels/annotation/dawid_skene.h"
#include "kernels/annotation/majority.h"
#include "kernels/annotation/one_coin.h"
#include "kernels/annotation/wawa.h"

namespace softloss::python {
namespace {

using annotation::Column;
using annotation::Consensus;
using annotation::DawidSkeneModel;
using annotation::Distributions;
using annotation::Votes;
using ColumnsOr = absl::StatusOr<std::vector<Column>>;

// The columns of every method.
std::vector<Column> ConsensusColumns(const Votes& votes, Consensus consensus) {
  const auto states = static_cast<std::int64_t>(consensus.posterior.size()) /
                      std::max<std::int64_t>(votes.num_items(), 1);
  std::vector<Column> out;
  out.push_back(Doubles("posterior", {votes.num_items(), states}, std::move(consensus.posterior)));
  out.push_back(Doubles("skill", {votes.num_annotators()}, std::move(consensus.skill)));
  return out;
}

void AddTrace(std::vector<double> log_likelihood, bool converged, std::vector<Column>& out) {
  const auto iterations = static_cast<std::int64_t>(log_likelihood.size());
  out.push_back(Doubles("log_likelihood", {iterations}, std::move(log_likelihood)));
  out.push_back(Integers("converged", {}, std::vector<int>{converged}));
}

nb::dict Majority(const Votes& votes, const std::optional<Vector<double>>& annotator_weight,
                  int threads) {
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    const auto weight = SpanOf(annotator_weight);
    if (!weight.empty() && weight.size() != static_cast<std::size_t>(votes.num_annotators())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "annotator_weight: must have ", votes.num_annotators(), " values; has ", weight.size()));
    }
    return ConsensusColumns(votes, annotation::MajorityVote(votes, weight, executor));
  });
}

nb::dict Wawa(const Votes& votes, int threads) {
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    return ConsensusColumns(votes, annotation::Wawa(votes, executor));
  });
}

nb::dict OneCoin(const Votes& votes, const std::optional<Matrix>& gold, double tolerance,
                 int max_iterations, int threads) {
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    absl::StatusOr<annotation::OneCoin> fit = annotation::FitOneCoin(
        votes, OptionalRows(gold).get(), {tolerance, max_iterations}, executor);
    if (!fit.ok()) return fit.status();
    std::vector<Column> out = ConsensusColumns(votes, std::move(fit->consensus));
    out.push_back(Doubles("prior", {votes.num_classes()}, std::move(fit->prior)));
    AddTrace(std::move(fit->log_likelihood), fit->converged, out);
    return out;
  });
}

using Confusion =
    nb::ndarray<const double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;  // [annotators, S, K]

std::optional<DawidSkeneModel> ModelOf(const std::optional<Vector<double>>& prior,
                                       const std::optional<Confusion>& confusion) {
  if (!prior.has_value() || !confusion.has_value()) return std::nullopt;
  DawidSkeneModel out;
  out.num_states = static_cast<int>(confusion->shape(1));
  out.num_classes = static_cast<int>(confusion->shape(2));
  out.prior.assign(prior->data(), prior->data() + prior->size());
  out.confusion.assign(confusion->data(), confusion->data() + confusion->size());
  return out;
}

nb::dict DawidSkene(const Votes& votes, const std::optional<Matrix>& gold,
                    const std::optional<Matrix>& start,
                    const std::optional<Vector<double>>& start_prior,
                    const std::optional<Confusion>& start_confusion, double tolerance,
                    int max_iterations, double smoothing, double prior_smoothing, int threads) {
  const annotation::DawidSkeneOptions options{tolerance, max_iterations, smoothing,
                                              prior_smoothing};
  const std::optional<DawidSkeneModel> model = ModelOf(start_prior, start_confusion);
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    absl::StatusOr<annotation::DawidSkene> fit = annotation::FitDawidSkene(
        votes, OptionalRows(gold).get(),
        {.posterior = SpanOf(start), .model = model ? &*model : nullptr}, options, executor);
    if (!fit.ok()) return fit.status();
    const std::int64_t states = fit->model.num_states;
    std::vector<Column> out = ConsensusColumns(votes, std::move(fit->consensus));
    out.push_back(Doubles("prior", {states}, std::move(fit->model.prior)));
    out.push_back(Doubles("confusion", {votes.num_annotators(), states, votes.num_classes()},
                          std::move(fit->model.confusion)));
    AddTrace(std::move(fit->log_likelihood), fit->converged, out);
    return out;
  });
}

nb::dict DawidSkenePosterior(const Votes& votes, const Vector<double>& prior,
                             const Confusion& confusion, int threads) {
  const std::optional<DawidSkeneModel> model = ModelOf(prior, confusion);
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    absl::StatusOr<std::vector<double>> posterior =
        annotation::DawidSkenePosterior(votes, *model, executor);
    if (!posterior.ok()) return posterior.status();
    return std::vector<Column>{
        Doubles("posterior", {votes.num_items(), model->num_states}, *std::move(posterior))};
  });
}

nb::dict Crowdlab(const Votes& votes, const std::optional<Matrix>& predictions, int threads) {
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    const OptionalRows model(predictions);
    absl::StatusOr<annotation::Crowdlab> fit =
        annotation::FitCrowdlab(votes, model.get(), executor);
    if (!fit.ok()) return fit.status();
    std::vector<double> active = annotation::ActiveLabScores(votes, model.get(), *fit);
    const std::int64_t items = votes.num_items(), people = votes.num_annotators();
    std::vector<Column> out = ConsensusColumns(votes, std::move(fit->consensus));
    out.push_back(Integers("label", {items}, fit->label));
    out.push_back(Doubles("quality", {items}, std::move(fit->quality)));
    out.push_back(Doubles("agreement", {items}, std::move(fit->agreement)));
    out.push_back(Doubles("active_lab", {items}, std::move(active)));
    out.push_back(
        Doubles("agreement_with_consensus", {people}, std::move(fit->agreement_with_consensus)));
    out.push_back(Integers("worst_class", {people}, fit->worst_class));
    out.push_back(Doubles("annotator_weight", {people}, std::move(fit->weight)));
    out.push_back(Doubles("model_weight", {}, {fit->model_weight}));
    return out;
  });
}

}  // namespace

void BindQualityAggregation(nb::module_& m) {
  using nb::arg;
  const annotation::DawidSkeneOptions em;
  const annotation::OneCoinOptions coin;
  m.def("quality_majority", &Majority, arg("votes"), nb::kw_only(),
        arg("annotator_weight").none() = nb::none(), arg("threads") = 0);
  m.def("quality_wawa", &Wawa, arg("votes"), nb::kw_only(), arg("threads") = 0);
  m.def("quality_one_coin", &OneCoin, arg("votes"), nb::kw_only(), arg("gold").none() = nb::none(),
        arg("tolerance") = coin.tolerance, arg("max_iterations") = coin.max_iterations,
        arg("threads") = 0);
  m.def("quality_dawid_skene", &DawidSkene, arg("votes"), nb::kw_only(),
        arg("gold").none() = nb::none(), arg("start").none() = nb::none(),
        arg("start_prior").none() = nb::none(), arg("start_confusion").none() = nb::none(),
        arg("tolerance") = em.tolerance, arg("max_iterations") = em.max_iterations,
        arg("smoothing") = em.smoothing, arg("prior_smoothing") = em.prior_smoothing,
        arg("threads") = 0);
  m.def("quality_dawid_skene_posterior", &DawidSkenePosterior, arg("votes"), nb::kw_only(),
        arg("prior"), arg("confusion"), arg("threads") = 0);
  m.def("quality_crowdlab", &Crowdlab, arg("votes"), nb::kw_only(),
        arg("predictions").none() = nb::none(), arg("threads") = 0);
}

}  // namespace softloss::python
