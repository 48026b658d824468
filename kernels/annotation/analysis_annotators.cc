#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/annotation/alerts.h"
#include "kernels/annotation/analysis_parts.h"
#include "kernels/annotation/answer_metrics.h"
#include "kernels/annotation/intervals.h"
#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr Figure kUndefined = {kNaN, kNaN, kNaN, 0};

// The mean of a vote figure over an annotator's votes.
Figure MeanOfVotes(const AnalysisInput& in, absl::Span<const std::uint32_t> own,
                   const std::vector<double>& figure) {
  WeightedMean mean;
  for (const std::uint32_t v : own) {
    if (!std::isnan(figure[v])) mean.Add(figure[v], in.votes.weight(v));
  }
  return ShareFigure(mean);
}

constexpr int kDivergences = 5;
using Terms = std::array<double, kDivergences>;

Terms Divergences(const Votes& votes, std::int64_t v, Row p) {
  std::vector<double> one_hot;
  Row q;
  if (votes.soft()) {
    q = votes.probabilities(v);
  } else {
    one_hot.assign(votes.num_classes(), 0);
    one_hot[votes.label(v)] = 1;
    q = one_hot;
  }
  return {CrossEntropy(q, p), KlDivergence(q, p), JensenShannon(q, p), Brier(q, p),
          TotalVariation(q, p)};
}

// Sets the annotator's divergences from the model, with intervals over items.
void SetDivergences(const AnalysisInput& in, int annotator, AnnotatorColumns& out) {
  std::array<std::vector<Figure>*, kDivergences> column = {&out.cross_entropy, &out.kl, &out.js,
                                                           &out.brier, &out.tv};
  MeanBootstrap bootstrap(kDivergences, in.options.bootstrap_replicates);
  std::array<WeightedMean, kDivergences> mean;
  for (const std::uint32_t v : in.by_annotator.of(annotator)) {
    const std::int64_t item = in.item_of_vote[v];
    const Row p = in.prediction(item);
    if (p.empty()) continue;
    const Terms terms = Divergences(in.votes, v, p);
    bootstrap.Add(static_cast<std::uint64_t>(item), terms, in.votes.weight(v));
    for (int d = 0; d < kDivergences; ++d) mean[d].Add(terms[d], in.votes.weight(v));
  }
  for (int d = 0; d < kDivergences; ++d) {
    if (mean[d].count == 0) continue;
    const Interval interval = bootstrap.Percentiles(d);
    (*column[d])[annotator] = {mean[d].mean(), interval.low, interval.high,
                               mean[d].effective_count()};
  }
}

// What the annotator votes on items of each class, by Dawid-Skene's posterior: counts as they are, as
// the smoothing that steadies the posterior would make rows of few votes look unlike others. On a
// class that the annotator never met it is what he votes at all.
void SetConfusion(const AnalysisInput& in, int annotator, absl::Span<const double> class_share,
                  absl::Span<double> rows) {
  constexpr double kNeverMet = 1e-9;  // of a vote
  const int classes = in.votes.num_classes();
  const std::vector<double>& posterior = in.fit.dawid_skene->consensus.posterior;
  for (const std::uint32_t v : in.by_annotator.of(annotator)) {
    const double* const p = posterior.data() + in.item_of_vote[v] * classes;
    for (int s = 0; s < classes; ++s) {
      for (int k = 0; k < classes; ++k) {
        rows[s * classes + k] += in.votes.weight(v) * p[s] * in.votes.probability(v, k);
      }
    }
  }
  for (int s = 0; s < classes; ++s) {
    const absl::Span<double> row = rows.subspan(s * classes, classes);
    double sum = 0;
    for (const double cell : row) sum += cell;
    for (int k = 0; k < classes; ++k) row[k] = sum > kNeverMet ? row[k] / sum : class_share[k];
  }
}

// The mean posterior at own votes; CROWDLAB's quality in its place, where there is one.
Figure Quality(const AnalysisInput& in, int annotator) {
  const int classes = in.votes.num_classes();
  WeightedMean mean;
  MeanBootstrap bootstrap(1, in.options.bootstrap_replicates);
  for (const std::uint32_t v : in.by_annotator.of(annotator)) {
    const std::int64_t item = in.item_of_vote[v];
    double at_vote = 0;
    for (int k = 0; k < classes; ++k) {
      at_vote += in.votes.probability(v, k) * in.fit.posterior[item * classes + k];
    }
    mean.Add(at_vote, in.votes.weight(v));
    bootstrap.Add(static_cast<std::uint64_t>(item), at_vote, in.votes.weight(v));
  }
  if (mean.count == 0) return kUndefined;
  const Interval interval = bootstrap.Percentiles(0);
  Figure figure = {mean.mean(), interval.low, interval.high, mean.effective_count()};
  if (in.fit.crowdlab.has_value()) {
    // A mix of that mean with the agreement with the consensus: the interval moves with it.
    const double crowdlab = in.fit.crowdlab->consensus.skill[annotator];
    figure.low = std::clamp(figure.low + crowdlab - figure.value, 0.0, 1.0);
    figure.high = std::clamp(figure.high + crowdlab - figure.value, 0.0, 1.0);
    figure.value = crowdlab;
  }
  return figure;
}

}  // namespace

absl::Span<const double> AnalysisInput::prediction(std::int64_t item) const {
  if (predictions == nullptr || predictions->present[item] == 0) return {};
  const int classes = votes.num_classes();
  return absl::MakeConstSpan(predictions->probability).subspan(item * classes, classes);
}

Figure ShareFigure(const WeightedMean& mean) {
  if (mean.count == 0) return kUndefined;
  const double n = mean.effective_count();
  const Interval interval = WilsonInterval(mean.mean(), n);
  return {mean.mean(), interval.low, interval.high, n};
}

AnnotatorColumns AnalyzeAnnotators(const AnalysisInput& in) {
  const Votes& votes = in.votes;
  const int annotators = votes.num_annotators(), classes = votes.num_classes();
  AnnotatorColumns out;
  out.votes.resize(annotators);
  out.weight.resize(annotators);
  for (auto* column :
       {&out.quality, &out.agreement_consensus, &out.agreement_peers, &out.agreement_gold,
        &out.agreement_model, &out.cross_entropy, &out.kl, &out.js, &out.brier, &out.tv}) {
    column->assign(annotators, kUndefined);
  }
  out.accuracy = in.fit.one_coin.has_value() ? in.fit.one_coin->consensus.skill
                                             : std::vector<double>(annotators, kNaN);
  out.class_share.assign(static_cast<std::size_t>(annotators) * classes, kNaN);
  const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(classes) * classes;
  if (in.fit.dawid_skene.has_value()) out.confusion.assign(annotators * cells, 0.0);
  in.executor.ParallelFor(annotators, [&](std::int64_t r) {
    const auto annotator = static_cast<int>(r);
    const absl::Span<const std::uint32_t> own = in.by_annotator.of(annotator);
    std::vector<double> share(classes);
    double weight = 0;
    for (const std::uint32_t v : own) {
      weight += votes.weight(v);
      for (int k = 0; k < classes; ++k) share[k] += votes.weight(v) * votes.probability(v, k);
    }
    out.votes[r] = static_cast<std::int64_t>(own.size());
    out.weight[r] = weight;
    if (own.empty()) return;
    for (int k = 0; k < classes; ++k) out.class_share[r * classes + k] = share[k] / weight;
    if (!out.confusion.empty()) {
      SetConfusion(in, annotator,
                   absl::MakeConstSpan(out.class_share).subspan(r * classes, classes),
                   absl::MakeSpan(out.confusion).subspan(r * cells, cells));
    }
    out.quality[r] = Quality(in, annotator);
    out.agreement_consensus[r] = MeanOfVotes(in, own, in.vote.others);
    out.agreement_peers[r] = MeanOfVotes(in, own, in.vote.peers);
    out.agreement_gold[r] = MeanOfVotes(in, own, in.vote.gold);
    out.agreement_model[r] = MeanOfVotes(in, own, in.vote.model);
    if (in.predictions != nullptr) SetDivergences(in, annotator, out);
  });
  out.uncertainty = AnnotatorUncertainty(votes, in.fit.majority_skill);
  out.spammer = SpammerScores(out.confusion, annotators, classes);
  for (int r = 0; r < annotators; ++r) {
    if (out.votes[r] == 0) out.spammer[r] = kNaN;
  }
  return out;
}

}  // namespace softloss::annotation
