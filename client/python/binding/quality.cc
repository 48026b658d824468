#include "client/python/binding/quality.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "absl/strings/str_cat.h"
#include "client/python/binding/quality_votes.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/analysis_columns.h"

namespace softloss::python {
namespace {

using annotation::ConsensusMethod;

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

nb::dict Analyze(const annotation::Votes& votes, const std::optional<Matrix>& predictions,
                 const std::optional<Matrix>& gold, const std::string& method,
                 std::vector<double> class_values, int bootstrap_replicates, int worklist_items,
                 int drift_windows, bool calibrate_predictions, double min_agreement,
                 double min_votes, double spammer_score, double collapse_share,
                 double collapse_excess, int threads) {
  const annotation::AnalysisOptions options{.method = MethodNamed(method),
                                            .class_values = std::move(class_values),
                                            .bootstrap_replicates = bootstrap_replicates,
                                            .worklist_items = worklist_items,
                                            .drift_windows = drift_windows,
                                            .calibrate_predictions = calibrate_predictions,
                                            .min_agreement = min_agreement,
                                            .min_votes = min_votes,
                                            .spammer_score = spammer_score,
                                            .collapse_share = collapse_share,
                                            .collapse_excess = collapse_excess};
  return Columns(
      threads, [&](Executor& executor) -> absl::StatusOr<std::vector<annotation::Column>> {
        const absl::StatusOr<annotation::Analysis> analysis = annotation::Analyze(
            votes, OptionalRows(predictions).get(), OptionalRows(gold).get(), options, executor);
        if (!analysis.ok()) return analysis.status();
        return annotation::ToColumns(*analysis);
      });
}

}  // namespace

void BindQuality(nb::module_& m) {
  const annotation::AnalysisOptions defaults;
  m.def("quality_analyze", &Analyze, nb::arg("votes"), nb::kw_only(),
        nb::arg("predictions").none() = nb::none(), nb::arg("gold").none() = nb::none(),
        nb::arg("method") = "auto", nb::arg("class_values") = std::vector<double>(),
        nb::arg("bootstrap_replicates") = defaults.bootstrap_replicates,
        nb::arg("worklist_items") = defaults.worklist_items,
        nb::arg("drift_windows") = defaults.drift_windows,
        nb::arg("calibrate_predictions") = defaults.calibrate_predictions,
        nb::arg("min_agreement") = defaults.min_agreement,
        nb::arg("min_votes") = defaults.min_votes,
        nb::arg("spammer_score") = defaults.spammer_score,
        nb::arg("collapse_share") = defaults.collapse_share,
        nb::arg("collapse_excess") = defaults.collapse_excess, nb::arg("threads") = 0);
}

}  // namespace softloss::python
