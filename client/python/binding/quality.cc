#include "client/python/binding/quality.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "absl/strings/str_cat.h"
#include "client/python/binding/columns.h"
#include "client/python/binding/quality_votes.h"
#include "client/python/binding/status.h"
#include "client/python/binding/thread_executor.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/analysis_columns.h"

namespace softloss::python {
namespace {

using annotation::ConsensusMethod;
using annotation::Distributions;

ConsensusMethod MethodNamed(const std::string& name) {
  static constexpr const char* kNames[] = {"auto",     "majority",    "wawa",
                                           "one_coin", "dawid_skene", "crowdlab"};
  for (int m = 0; m < 6; ++m) {
    if (name == kNames[m]) return static_cast<ConsensusMethod>(m);
  }
  Raise(absl::InvalidArgumentError(absl::StrCat(
            "method: must be auto, majority, wawa, one_coin, dawid_skene or crowdlab; was ", name)),
        "method");
}

nb::dict Analyze(std::int64_t num_items, int num_annotators, int num_classes,
                 const Vector<std::int64_t>& item, const Vector<std::int32_t>& annotator,
                 const std::optional<Vector<std::int32_t>>& label,
                 const std::optional<Matrix>& probabilities,
                 const std::optional<Vector<double>>& weight,
                 const std::optional<Vector<double>>& time,
                 const std::optional<Matrix>& predictions, const std::optional<Matrix>& gold,
                 const std::string& method, std::vector<double> class_values,
                 int bootstrap_replicates, int worklist_items, int drift_windows,
                 double min_agreement, double min_votes, double spammer_score,
                 double collapse_share, double collapse_excess, int threads) {
  const annotation::VoteColumns columns{.num_classes = num_classes,
                                        .num_items = num_items,
                                        .num_annotators = num_annotators,
                                        .item = SpanOf(item),
                                        .annotator = SpanOf(annotator),
                                        .label = SpanOf(label),
                                        .probabilities = SpanOf(probabilities),
                                        .weight = SpanOf(weight),
                                        .time = SpanOf(time)};
  const annotation::AnalysisOptions options{.method = MethodNamed(method),
                                            .class_values = std::move(class_values),
                                            .bootstrap_replicates = bootstrap_replicates,
                                            .worklist_items = worklist_items,
                                            .drift_windows = drift_windows,
                                            .min_agreement = min_agreement,
                                            .min_votes = min_votes,
                                            .spammer_score = spammer_score,
                                            .collapse_share = collapse_share,
                                            .collapse_excess = collapse_excess};
  std::vector<annotation::Column> out;
  absl::Status status;
  {
    nb::gil_scoped_release release;
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    ThreadExecutor executor(threads > 0 ? threads : cores);
    absl::StatusOr<annotation::Votes> votes = annotation::Votes::Create(columns);
    std::optional<Distributions> model, answers;
    if (predictions.has_value()) model = FromRows(*predictions);
    if (gold.has_value()) answers = FromRows(*gold);
    status = votes.status();
    if (votes.ok()) {
      absl::StatusOr<annotation::Analysis> analysis = annotation::Analyze(
          *votes, model ? &*model : nullptr, answers ? &*answers : nullptr, options, executor);
      status = analysis.status();
      if (analysis.ok()) out = annotation::ToColumns(*analysis);
    }
  }
  if (!status.ok()) Raise(status);
  return ToDict(std::move(out));
}

}  // namespace

void BindQuality(nb::module_& m) {
  const annotation::AnalysisOptions defaults;
  m.def("quality_analyze", &Analyze, nb::kw_only(), nb::arg("num_items"), nb::arg("num_annotators"),
        nb::arg("num_classes"), nb::arg("item"), nb::arg("annotator"),
        nb::arg("label").none() = nb::none(), nb::arg("probabilities").none() = nb::none(),
        nb::arg("weight").none() = nb::none(), nb::arg("time").none() = nb::none(),
        nb::arg("predictions").none() = nb::none(), nb::arg("gold").none() = nb::none(),
        nb::arg("method") = "auto", nb::arg("class_values") = std::vector<double>(),
        nb::arg("bootstrap_replicates") = defaults.bootstrap_replicates,
        nb::arg("worklist_items") = defaults.worklist_items,
        nb::arg("drift_windows") = defaults.drift_windows,
        nb::arg("min_agreement") = defaults.min_agreement,
        nb::arg("min_votes") = defaults.min_votes,
        nb::arg("spammer_score") = defaults.spammer_score,
        nb::arg("collapse_share") = defaults.collapse_share,
        nb::arg("collapse_excess") = defaults.collapse_excess, nb::arg("threads") = 0);
}

}  // namespace softloss::python
