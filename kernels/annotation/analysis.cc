#include "kernels/annotation/analysis.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/annotation/alerts.h"
#include "kernels/annotation/analysis_consensus.h"
#include "kernels/annotation/analysis_parts.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/temperature.h"

namespace softloss::annotation {
namespace {

absl::Status CheckShare(const char* option, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("options.", option, ": must be from 0 to 1; was ", value));
}

absl::Status CheckCount(const char* option, double value, double max) {
  if (value >= 0 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("options.", option, ": must be from 0 to ", max, "; was ", value));
}

// [annotators, K] The share of each class in the consensus of the items that an annotator voted on.
std::vector<double> ConsensusShares(const AnalysisInput& in) {
  const int classes = in.votes.num_classes();
  std::vector<double> out(static_cast<std::size_t>(in.votes.num_annotators()) * classes);
  in.executor.ParallelFor(in.votes.num_annotators(), [&](std::int64_t r) {
    double weight = 0;
    for (const std::uint32_t v : in.by_annotator.of(static_cast<int>(r))) {
      weight += in.votes.weight(v);
      for (int k = 0; k < classes; ++k) {
        out[r * classes + k] +=
            in.votes.weight(v) * in.fit.posterior[in.item_of_vote[v] * classes + k];
      }
    }
    for (int k = 0; k < classes; ++k) out[r * classes + k] /= weight;
  });
  return out;
}

}  // namespace

absl::Status Validate(const AnalysisOptions& options, int num_classes) {
  if (!options.class_values.empty()) {
    if (options.class_values.size() != static_cast<std::size_t>(num_classes)) {
      return absl::InvalidArgumentError(absl::StrCat("options.class_values: must have ",
                                                     num_classes, " values, one a class; has ",
                                                     options.class_values.size()));
    }
    for (const double value : options.class_values) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat("options.class_values: must be finite; has ", value));
      }
    }
  }
  for (const auto& [option, value] : {std::pair{"min_agreement", options.min_agreement},
                                      std::pair{"spammer_score", options.spammer_score},
                                      std::pair{"collapse_share", options.collapse_share},
                                      std::pair{"collapse_excess", options.collapse_excess}}) {
    if (auto s = CheckShare(option, value); !s.ok()) return s;
  }
  if (auto s = CheckCount("bootstrap_replicates", options.bootstrap_replicates, 10000); !s.ok()) {
    return s;
  }
  if (auto s = CheckCount("worklist_items", options.worklist_items, 1e9); !s.ok()) return s;
  if (auto s = CheckCount("drift_windows", options.drift_windows, 1000); !s.ok()) return s;
  return CheckCount("min_votes", options.min_votes, 1e15);
}

absl::StatusOr<Analysis> Analyze(const Votes& votes, const Distributions* predictions,
                                 const Distributions* gold, const AnalysisOptions& options,
                                 Executor& executor) {
  const int classes = votes.num_classes();
  if (auto s = Validate(options, classes); !s.ok()) return s;
  for (const auto& [field, given] :
       {std::pair{"predictions", predictions}, std::pair{"gold", gold}}) {
    if (auto s = CheckDistributions(field, given, votes.num_items(), classes); !s.ok()) return s;
  }
  Analysis out;
  Distributions calibrated;
  if (options.calibrate_predictions && predictions != nullptr) {
    out.temperature = BestTemperature(votes, *predictions, executor);
    calibrated = ScaleByTemperature(*predictions, classes, out.temperature);
    predictions = &calibrated;
  }
  absl::StatusOr<ConsensusFit> fit =
      FitConsensus(votes, predictions, gold, options.method, executor);
  if (!fit.ok()) return fit.status();

  const AnnotatorIndex by_annotator(votes);
  const VoteFigures vote = FiguresOfVotes(votes, predictions, gold, executor);
  std::vector<std::int64_t> item_of_vote(votes.size());
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      item_of_vote[v] = i;
    }
  }
  const AnalysisInput in{votes, by_annotator, predictions, gold,        options,
                         *fit,  vote,         executor,    item_of_vote};
  out.num_classes = classes;
  out.method = fit->method;
  out.annotator = AnalyzeAnnotators(in);
  out.item = AnalyzeItems(in);
  absl::StatusOr<ClassColumns> classes_of = AnalyzeClasses(in, out.item);
  if (!classes_of.ok()) return classes_of.status();
  out.class_ = *std::move(classes_of);
  AnalyzeAgreement(in, out);
  MakeWorklist(in, out);
  out.drift = AnalyzeDrift(in);
  out.alerts = FindAlerts(out, ConsensusShares(in), options);
  out.posterior = std::move(fit->posterior);
  return out;
}

}  // namespace softloss::annotation
