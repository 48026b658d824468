// Everything about a campaign at once: its people, items, classes and worklist.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/annotation/agreement.h"
#include "kernels/annotation/calibration.h"
#include "kernels/annotation/pair_agreement.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// Which posterior is the consensus.
enum class ConsensusMethod : std::uint8_t {
  kAuto,  // CROWDLAB with predictions, otherwise Dawid-Skene; see FitConsensus
  kMajority,
  kWawa,
  kOneCoin,
  kDawidSkene,
  kCrowdlab,
};

struct AnalysisOptions {
  ConsensusMethod method = ConsensusMethod::kAuto;
  std::vector<double> class_values;  // [K], the classes on an interval scale; empty: 0, 1, …, K−1
  int bootstrap_replicates = 200;    // of figures that are no shares; 0: no intervals for these
  int worklist_items = 1000;         // at most
  int drift_windows = 10;            // at most, an annotator
  // Scale predictions by the temperature that fits the votes best (temperature.h), before all else.
  bool calibrate_predictions = false;
  // Alerts.
  double min_agreement = 0.5;    // of an annotator with the consensus of the others, or with gold
  double min_votes = 20;         // an annotator with fewer raises no alert
  double spammer_score = 0.05;   // a spammer's is below (alerts.h)
  double collapse_share = 0.9;   // of an annotator's votes in one class …
  double collapse_excess = 0.3;  // … and that much above everybody's share on the same items
};
// INVALID_ARGUMENT names the option, the rule and the value.
absl::Status Validate(const AnalysisOptions& options, int num_classes);

// A mean with its 95 % interval; n: over how many (effectively, where weights differ). NaN, and n = 0,
// where there is nothing to take it over; low and high NaN where there is no interval.
struct Figure {
  double value, low, high, n;
};

// [annotators] each.
struct AnnotatorColumns {
  std::vector<std::int64_t> votes;
  std::vector<double> weight;   // Σ of the votes' weights
  std::vector<Figure> quality;  // CROWDLAB's; without predictions the mean posterior at own votes
  // q·q', q' the majority of the others' votes on the item, shared out among equals (Wilson).
  std::vector<Figure> agreement_consensus;
  std::vector<Figure> agreement_peers;  // mean agreement with a co-labeller (Wilson)
  std::vector<Figure> agreement_gold;   // q·gold (Wilson)
  std::vector<Figure> agreement_model;  // q[argmax P] (Wilson)
  // Own votes against the model's row: row_scores.h. Bootstrap over items.
  std::vector<Figure> cross_entropy, kl, js, brier, tv;
  std::vector<double> accuracy;     // one-coin's skill; NaN where it was too large to fit
  std::vector<double> spammer;      // alerts.h: 0 for one who votes whatever the item is
  std::vector<double> uncertainty;  // answer_metrics.h, by the agreement with the majority
  std::vector<double> class_share;  // [annotators, K] Σ w·q_k / Σ w
  // [annotators, K, K] P(vote | true class), rows by the true class: counts by Dawid-Skene's
  // posterior; empty where that was too large to fit. Zeros for one without votes.
  std::vector<double> confusion;
};

// [items] each; NaN where undefined. Those of predictions are NaN for an item without one.
struct ItemColumns {
  std::vector<std::int64_t> votes;
  std::vector<std::int64_t> consensus;  // the likeliest class; −1 with neither votes nor prediction
  std::vector<double> confidence;       // posterior of the consensus
  std::vector<std::int64_t> majority;             // by votes alone; −1 without
  std::vector<double> label_quality;              // posterior of the majority's class
  std::vector<double> entropy, mean_entropy, js;  // ambiguity.h
  std::vector<double> agreement;                  // agreement.h
  std::vector<double> model_cross_entropy;        // of the votes' mean against the prediction
  std::vector<double> self_confidence, normalized_margin, confidence_weighted_entropy;
  // The same of predictions adjusted by the confident thresholds (row_scores.h).
  std::vector<double> adjusted_self_confidence, adjusted_normalized_margin;
  std::vector<double> in_distribution;  // of adjusted predictions (row_scores.h)
  std::vector<double> active_lab;
  std::vector<double> consistency, uncertainty;  // of the majority: answer_metrics.h
  std::vector<std::int64_t> gold;                // 1: the answer is known
  std::vector<std::int64_t> issue;  // 1: confident learning finds the majority's class wrong
};

// [K] each.
struct ClassColumns {
  std::vector<double> votes;  // Σ q_k
  std::vector<std::int64_t> consensus_items;
  std::vector<double> prior;            // mean posterior
  std::vector<double> agreement;        // mean q_k over votes on items whose consensus is k
  std::vector<double> self_confidence;  // mean P_k over items, by q̄_k: the confident threshold
  std::vector<std::int64_t> issues;     // items of this majority that are issues
  std::vector<double> estimated_noise;  // share of items of this majority whose class is another
};

enum class WorklistReason : std::uint8_t {
  kLabelIssue,      // votes and model are sure of different classes
  kDisagreement,    // the votes differ
  kAmbiguous,       // the voters are each unsure
  kModelDisagrees,  // the model doubts what all voters say
  kUnreliable,      // whoever voted so is not often right
};

enum class AlertKind : std::uint8_t { kBelowThreshold, kDrift, kSpammer, kClassCollapse };

struct Alert {
  AlertKind kind;
  std::int64_t annotator;
  Figure figure;     // what it is about; low and high NaN without an interval
  double threshold;  // what the figure is on the wrong side of
};

struct DriftWindow {
  std::int64_t annotator;
  double start, end;  // time of the first and the last vote in it
  Figure agreement;   // as agreement_consensus
};

struct Analysis {
  int num_classes = 0;
  ConsensusMethod method = ConsensusMethod::kMajority;  // what kAuto came to
  AnnotatorColumns annotator;
  ItemColumns item;
  ClassColumns class_;
  std::vector<double> posterior;  // [items, K]

  Agreement agreement;
  double cohen_kappa = 0;                         // pooled: agreement.h
  std::vector<PairFigure> pair;                   // the number of annotators stands for the model
  std::vector<std::int64_t> histogram;            // [20] of items' agreement, in steps of 0.05
  std::vector<double> confusion;                  // [K, K] Σ posterior_c·q_k; empty for K > 256
  std::vector<ReliabilityBins::Bin> reliability;  // of the model against the votes; or empty
  double ece_equal_width = 0, ece_equal_mass = 0;
  double temperature = 1;  // that predictions were scaled by

  std::vector<std::int64_t> worklist;  // items, the most urgent first
  std::vector<WorklistReason> reason;  // of each
  std::vector<DriftWindow> drift;      // by annotator, then by time; none without times
  std::vector<Alert> alerts;           // by kind, then by annotator
};

// `predictions` and `gold` are of the same items and classes; null: none. The same bits for the same
// votes, whatever the executor. INVALID_ARGUMENT for options or sizes that do not fit.
absl::StatusOr<Analysis> Analyze(const Votes& votes, const Distributions* predictions,
                                 const Distributions* gold, const AnalysisOptions& options,
                                 Executor& executor);

}  // namespace softloss::annotation
