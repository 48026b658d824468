// The parts of an analysis, each from the votes and what is known by then. Sizes are checked.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/analysis_consensus.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/vote_figures.h"

namespace softloss::annotation {

struct AnalysisInput {
  const Votes& votes;
  const AnnotatorIndex& by_annotator;
  const Distributions* predictions;  // or null
  const Distributions* gold;         // or null
  const AnalysisOptions& options;
  const ConsensusFit& fit;
  const VoteFigures& vote;
  Executor& executor;

  // [K] of an item that has one, else empty.
  absl::Span<const double> prediction(std::int64_t item) const;
  // [n] The item of each vote.
  absl::Span<const std::int64_t> item_of_vote;
};

// A share in [0, 1] with its Wilson interval, over effectively as many terms.
Figure ShareFigure(const WeightedMean& mean);

AnnotatorColumns AnalyzeAnnotators(const AnalysisInput& in);
ItemColumns AnalyzeItems(const AnalysisInput& in);
// Also sets items' issues and what is made of adjusted predictions.
absl::StatusOr<ClassColumns> AnalyzeClasses(const AnalysisInput& in, ItemColumns& items);
// agreement, cohen_kappa, pair, histogram, confusion, reliability and the two calibration errors.
void AnalyzeAgreement(const AnalysisInput& in, Analysis& out);
// worklist and reason.
void MakeWorklist(const AnalysisInput& in, Analysis& out);
std::vector<DriftWindow> AnalyzeDrift(const AnalysisInput& in);

}  // namespace softloss::annotation
