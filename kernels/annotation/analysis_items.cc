#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/annotation/agreement.h"
#include "kernels/annotation/ambiguity.h"
#include "kernels/annotation/analysis_parts.h"
#include "kernels/annotation/answer_metrics.h"
#include "kernels/annotation/confident_learning.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace

ItemColumns AnalyzeItems(const AnalysisInput& in) {
  const Votes& votes = in.votes;
  const std::int64_t items = votes.num_items();
  const int classes = votes.num_classes();
  ItemColumns out;
  out.votes.resize(items);
  out.consensus.resize(items);
  out.majority.resize(items);
  out.gold.resize(items);
  out.issue.resize(items);
  for (auto* column :
       {&out.confidence, &out.label_quality, &out.entropy, &out.mean_entropy, &out.js,
        &out.agreement, &out.model_cross_entropy, &out.self_confidence, &out.normalized_margin,
        &out.confidence_weighted_entropy, &out.adjusted_self_confidence,
        &out.adjusted_normalized_margin, &out.in_distribution}) {
    column->assign(items, kNaN);
  }
  if (in.fit.crowdlab.has_value()) {
    out.active_lab = ActiveLabScores(votes, in.predictions, *in.fit.crowdlab);
  } else {
    out.active_lab.assign(items, kNaN);
  }
  const auto row = [&](const std::vector<double>& of, std::int64_t i) {
    return absl::MakeConstSpan(of).subspan(i * classes, classes);
  };
  ForEachItem(votes, in.executor, [&](std::int64_t i) {
    const std::int64_t m = votes.item_begin(i + 1) - votes.item_begin(i);
    const Row p = in.prediction(i), posterior = row(in.fit.posterior, i);
    const bool gold = in.gold != nullptr && in.gold->present[i] != 0;
    out.votes[i] = m;
    out.gold[i] = gold;
    out.consensus[i] = m > 0 || !p.empty() || gold ? ArgMax(posterior) : -1;
    if (out.consensus[i] >= 0) out.confidence[i] = posterior[out.consensus[i]];
    out.majority[i] = -1;
    if (m == 0) return;
    const Row mean = row(in.fit.majority, i);
    out.majority[i] = ArgMax(mean);
    out.label_quality[i] = posterior[out.majority[i]];
    const Ambiguity ambiguity = ItemAmbiguity(votes, i, p);
    out.entropy[i] = ambiguity.entropy;
    out.mean_entropy[i] = ambiguity.mean_entropy;
    out.js[i] = ambiguity.js;
    out.model_cross_entropy[i] = ambiguity.cross_entropy;
    out.agreement[i] = ItemAgreement(votes, i);
    if (!p.empty()) {
      out.self_confidence[i] = SelfConfidence(mean, p);
      out.normalized_margin[i] = NormalizedMargin(mean, p);
      out.confidence_weighted_entropy[i] = ConfidenceWeightedEntropy(mean, p);
    }
  });
  const std::vector<std::int32_t> majority(out.majority.begin(), out.majority.end());
  out.consistency = Consistency(votes, in.fit.majority_skill, majority, in.executor);
  out.uncertainty = ItemUncertainty(votes, in.fit.majority_skill, in.executor);
  return out;
}

absl::StatusOr<ClassColumns> AnalyzeClasses(const AnalysisInput& in, ItemColumns& items) {
  const Votes& votes = in.votes;
  const int classes = votes.num_classes();
  std::vector<ExactSum> voted(classes), prior(classes), agreeing(classes), of_consensus(classes);
  ClassColumns out;
  out.consensus_items.assign(classes, 0);
  out.issues.assign(classes, 0);
  std::int64_t answered = 0;
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    const std::int64_t consensus = items.consensus[i];
    if (consensus < 0) continue;
    ++answered;
    ++out.consensus_items[consensus];
    for (int k = 0; k < classes; ++k) prior[k] += in.fit.posterior[i * classes + k];
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      of_consensus[consensus] += 1.0;
      agreeing[consensus] += votes.probability(v, static_cast<int>(consensus));
      if (votes.soft()) {
        for (int k = 0; k < classes; ++k) voted[k] += votes.probability(v, k);
      } else {
        voted[votes.label(v)] += 1.0;
      }
    }
  }
  for (int k = 0; k < classes; ++k) {
    out.votes.push_back(voted[k].value());
    out.prior.push_back(answered == 0 ? kNaN : prior[k].value() / static_cast<double>(answered));
    out.agreement.push_back(agreeing[k].value() / of_consensus[k].value());
  }
  out.self_confidence.assign(classes, kNaN);
  out.estimated_noise.assign(classes, kNaN);

  // Confident learning over the items that have both a majority and a prediction.
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> given;
  std::vector<double> p;
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    if (items.majority[i] < 0 || in.prediction(i).empty()) continue;
    item.push_back(i);
    given.push_back(static_cast<std::int32_t>(items.majority[i]));
    p.insert(p.end(), in.prediction(i).begin(), in.prediction(i).end());
  }
  if (item.empty()) return out;
  absl::StatusOr<LabelIssues> found = FindLabelIssues(classes, given, p, {}, in.executor);
  if (!found.ok()) return found.status();
  std::vector<double> adjusted(classes);
  for (std::size_t n = 0; n < item.size(); ++n) {
    const std::int64_t i = item[n];
    items.issue[i] = found->issue[n];
    out.issues[given[n]] += found->issue[n];
    AdjustProbabilities(in.prediction(i), found->thresholds, absl::MakeSpan(adjusted));
    const Row mean = absl::MakeConstSpan(in.fit.majority).subspan(i * classes, classes);
    items.adjusted_self_confidence[i] = SelfConfidence(mean, adjusted);
    items.adjusted_normalized_margin[i] = NormalizedMargin(mean, adjusted);
    items.in_distribution[i] = InDistribution(adjusted);
  }
  const std::vector<double> joint(found->joint_counts.begin(), found->joint_counts.end());
  out.self_confidence = std::move(found->thresholds);
  out.estimated_noise = EstimateNoise(joint, classes).label_noise;
  return out;
}

}  // namespace softloss::annotation
