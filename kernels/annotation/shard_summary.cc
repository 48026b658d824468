#include "kernels/annotation/shard_summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/alerts.h"
#include "kernels/annotation/analysis_parts.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/intervals.h"
#include "kernels/annotation/pair_agreement.h"
#include "kernels/annotation/row_scores.h"
#include "kernels/annotation/state_sums.h"
#include "kernels/annotation/vote_figures.h"

namespace softloss::annotation {
namespace {

constexpr char kSchema[] = "softloss.quality.summary/1";
constexpr char kAnnotator[] = "annotator/", kBootstrap[] = "bootstrap/", kPairs[] = "pair";
constexpr int kHistogramBins = 20;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr Figure kUndefined = {kNaN, kNaN, kNaN, 0};

enum Total { kItems, kTwoVotes, kVotes, kPredictions, kGold, kTotals };
enum Share { kOthers, kPeers, kGoldShare, kModel, kShares };
constexpr int kDivergences = 5;

// Of one annotator, or of one shard's.
struct AnnotatorSums {
  AnnotatorSums(int classes, int replicates)
      : bootstrap(kDivergences, replicates), class_share(classes) {}

  std::int64_t votes = 0;
  ExactSum weight;
  std::array<WeightedMean, kShares> share;
  std::array<WeightedMean, kDivergences> divergence;
  MeanBootstrap bootstrap;            // of the divergences; a key of its own, if there are any
  std::vector<ExactSum> class_share;  // [K] Σ w·q_k

  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    visitor(weight);
    for (WeightedMean& mean : share) mean.VisitSums(visitor);
    for (WeightedMean& mean : divergence) mean.VisitSums(visitor);
    for (ExactSum& sum : class_share) visitor(sum);
  }
  template <typename Visitor>
  void VisitCounts(Visitor&& visitor) {
    visitor(votes);
    for (WeightedMean& mean : share) mean.VisitCounts(visitor);
    for (WeightedMean& mean : divergence) mean.VisitCounts(visitor);
  }
};

struct ClassSums {
  std::vector<ExactSum> votes;  // [K] Σ q_k
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum& sum : votes) visitor(sum);
  }
};

Row RowOf(const Distributions* of, std::int64_t item, int classes) {
  if (!Present(of, item)) return {};
  return absl::MakeConstSpan(of->probability).subspan(item * classes, classes);
}

absl::Status CheckNames(const ShardNames& names, const Votes& votes) {
  for (const auto& [field, have, want] :
       {std::tuple{"items", names.items.size(), static_cast<std::size_t>(votes.num_items())},
        std::tuple{"annotators", names.annotators.size(),
                   static_cast<std::size_t>(votes.num_annotators())},
        std::tuple{"classes", names.classes.size(),
                   static_cast<std::size_t>(votes.num_classes())}}) {
    if (have != want) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": must have ", want, " names; has ", have));
    }
  }
  return absl::OkStatus();
}

// What the items of a shard add to the sums of its annotators and classes.
class Summary {
 public:
  Summary(const ShardNames& names, const Votes& votes, const Distributions* predictions,
          const Distributions* gold, int replicates)
      : names_(names),
        votes_(votes),
        predictions_(predictions),
        gold_(gold),
        classes_(votes.num_classes()),
        figures_(FiguresOfVotes(votes, predictions, gold, executor_)),
        agreement_(classes_),
        pairs_(classes_),
        class_{std::vector<ExactSum>(classes_)},
        annotator_(votes.num_annotators(), AnnotatorSums(classes_, replicates)) {
    for (std::int64_t i = 0; i < votes.num_items(); ++i) AddItem(i);
  }

  void SaveTo(State& state) && {
    state.counts("totals").assign(totals_.begin(), totals_.end());
    state.counts("histogram").assign(histogram_.begin(), histogram_.end());
    Save(std::move(agreement_), "agreement", state);
    Save(std::move(reliability_), "reliability", state);
    Save(std::move(class_), "class", state);
    SavePairs(pairs_, PairNames(names_.annotators), kPairs, state);
    for (int r = 0; r < votes_.num_annotators(); ++r) {
      const std::string& name = names_.annotators[r];
      if (annotator_[r].divergence[0].count > 0) {
        Save(std::move(annotator_[r].bootstrap), absl::StrCat(kBootstrap, name), state);
      }
      Save(std::move(annotator_[r]), absl::StrCat(kAnnotator, name), state);
    }
  }

  // The model is one more voter, whose name is no annotator's.
  static std::vector<std::string> PairNames(absl::Span<const std::string> annotators) {
    std::vector<std::string> names;
    for (const std::string& name : annotators) names.push_back(absl::StrCat("a", name));
    names.push_back("model");
    return names;
  }

 private:
  void AddItem(std::int64_t i) {
    const std::int64_t begin = votes_.item_begin(i), end = votes_.item_begin(i + 1);
    if (begin == end) return;
    const Row p = RowOf(predictions_, i, classes_);
    ++totals_[kItems];
    totals_[kTwoVotes] += end - begin > 1;
    totals_[kVotes] += end - begin;
    totals_[kPredictions] += !p.empty();
    totals_[kGold] += Present(gold_, i);
    agreement_.AddItem(votes_, i);
    pairs_.AddItem(votes_, i, p);
    if (const double agreement = ItemAgreement(votes_, i); !std::isnan(agreement)) {
      ++histogram_[std::min(static_cast<int>(agreement * kHistogramBins), kHistogramBins - 1)];
    }
    const std::uint64_t key = ItemKey(names_.items[i]);
    std::vector<double> q(classes_), mean(classes_);
    double weight = 0;
    for (std::int64_t v = begin; v < end; ++v) {
      for (int k = 0; k < classes_; ++k) {
        q[k] = votes_.probability(v, k);
        mean[k] += votes_.weight(v) * q[k];
        class_.votes[k] += q[k];
      }
      weight += votes_.weight(v);
      AddVote(v, key, q, p);
    }
    if (p.empty()) return;
    const std::int32_t answer = ArgMax(p);
    reliability_.Add(p[answer], mean[answer] / weight);
  }

  void AddVote(std::int64_t v, std::uint64_t item, Row q, Row p) {
    AnnotatorSums& sums = annotator_[votes_.annotator(v)];
    const double w = votes_.weight(v);
    ++sums.votes;
    sums.weight += w;
    for (int k = 0; k < classes_; ++k) sums.class_share[k] += w * q[k];
    const std::array<double, kShares> shares = {figures_.others[v], figures_.peers[v],
                                                figures_.gold[v], figures_.model[v]};
    for (int s = 0; s < kShares; ++s) {
      if (!std::isnan(shares[s])) sums.share[s].Add(shares[s], w);
    }
    if (p.empty()) return;
    const std::array<double, kDivergences> terms = {CrossEntropy(q, p), KlDivergence(q, p),
                                                    JensenShannon(q, p), Brier(q, p),
                                                    TotalVariation(q, p)};
    for (int d = 0; d < kDivergences; ++d) sums.divergence[d].Add(terms[d], w);
    sums.bootstrap.Add(item, terms, w);
  }

  const ShardNames& names_;
  const Votes& votes_;
  const Distributions* predictions_;
  const Distributions* gold_;
  int classes_;
  InlineExecutor executor_;
  VoteFigures figures_;
  std::array<std::int64_t, kTotals> totals_{};
  std::array<std::int64_t, kHistogramBins> histogram_{};
  AgreementSums agreement_;
  PairAgreement pairs_;
  ReliabilityBins reliability_;
  ClassSums class_;
  std::vector<AnnotatorSums> annotator_;
};

Figure FigureOf(const WeightedMean& mean, const MeanBootstrap& bootstrap, int d) {
  if (mean.count == 0) return kUndefined;
  const Interval interval = bootstrap.Percentiles(d);
  return {mean.mean(), interval.low, interval.high, mean.effective_count()};
}

void Fill(const std::vector<AnnotatorSums>& all, int classes, AnnotatorColumns& out) {
  for (const AnnotatorSums& sums : all) {
    out.votes.push_back(sums.votes);
    out.weight.push_back(sums.weight.value());
    out.quality.push_back(kUndefined);
    out.accuracy.push_back(kNaN);
    out.spammer.push_back(kNaN);
    out.uncertainty.push_back(kNaN);
    out.agreement_consensus.push_back(ShareFigure(sums.share[kOthers]));
    out.agreement_peers.push_back(ShareFigure(sums.share[kPeers]));
    out.agreement_gold.push_back(ShareFigure(sums.share[kGoldShare]));
    out.agreement_model.push_back(ShareFigure(sums.share[kModel]));
    std::vector<Figure>* const columns[] = {&out.cross_entropy, &out.kl, &out.js, &out.brier,
                                            &out.tv};
    for (int d = 0; d < kDivergences; ++d) {
      columns[d]->push_back(FigureOf(sums.divergence[d], sums.bootstrap, d));
    }
    for (int k = 0; k < classes; ++k) {
      out.class_share.push_back(sums.class_share[k].value() / sums.weight.value());
    }
  }
}

}  // namespace

absl::StatusOr<State> SummarizeShard(std::string_view shard, const ShardNames& names,
                                     const Votes& votes, const Distributions* predictions,
                                     const Distributions* gold, int bootstrap_replicates) {
  if (auto s = CheckNames(names, votes); !s.ok()) return s;
  for (const auto& [field, given] :
       {std::pair{"predictions", predictions}, std::pair{"gold", gold}}) {
    if (auto s = CheckDistributions(field, given, votes.num_items(), votes.num_classes()); !s.ok())
      return s;
  }
  AnalysisOptions options;
  options.bootstrap_replicates = bootstrap_replicates;
  if (auto s = Validate(options, votes.num_classes()); !s.ok()) return s;
  State state(absl::StrCat(kSchema, " replicates=", bootstrap_replicates),
              {names.classes.begin(), names.classes.end()});
  if (auto s = state.AddShard(shard); !s.ok()) return s;
  Summary(names, votes, predictions, gold, bootstrap_replicates).SaveTo(state);
  return state;
}

absl::StatusOr<ShardSummary> ReadSummary(const State& state, const AnalysisOptions& options) {
  const std::string prefix = absl::StrCat(kSchema, " replicates=");
  const int classes = static_cast<int>(state.classes().size());
  int replicates = 0;
  if (state.schema().compare(0, prefix.size(), prefix) != 0 ||
      !absl::SimpleAtoi(state.schema().substr(prefix.size()), &replicates) || replicates < 0 ||
      classes < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("state: must be a summary of votes (", kSchema, "); is of ", state.schema()));
  }
  if (auto s = Validate(options, classes); !s.ok()) return s;
  const std::vector<std::int64_t>* totals = state.FindCounts("totals");
  const std::vector<std::int64_t>* histogram = state.FindCounts("histogram");
  if (totals == nullptr || totals->size() != kTotals || histogram == nullptr ||
      histogram->size() != kHistogramBins) {
    return absl::InvalidArgumentError("state: lacks its totals");
  }
  ShardSummary out{.items = (*totals)[kItems],
                   .items_with_two_votes = (*totals)[kTwoVotes],
                   .votes = (*totals)[kVotes],
                   .predictions = (*totals)[kPredictions],
                   .gold = (*totals)[kGold]};
  Analysis& analysis = out.analysis;
  analysis.num_classes = classes;
  analysis.histogram = *histogram;

  auto agreement = Load(state, "agreement", AgreementSums(classes));
  if (!agreement.ok()) return agreement.status();
  analysis.agreement = agreement->Finish(options.class_values);
  auto reliability = Load(state, "reliability", ReliabilityBins());
  if (!reliability.ok()) return reliability.status();
  analysis.ece_equal_width = reliability->Error();
  analysis.ece_equal_mass = kNaN;
  if (out.predictions > 0) analysis.reliability = reliability->Curve();
  auto class_sums = Load(state, "class", ClassSums{std::vector<ExactSum>(classes)});
  if (!class_sums.ok()) return class_sums.status();
  for (const ExactSum& sum : class_sums->votes) analysis.class_.votes.push_back(sum.value());

  std::vector<AnnotatorSums> all;
  for (auto at = state.all_counts().lower_bound(kAnnotator); at != state.all_counts().end(); ++at) {
    if (at->first.compare(0, sizeof kAnnotator - 1, kAnnotator) != 0) break;
    auto sums = Load(state, at->first, AnnotatorSums(classes, replicates));
    if (!sums.ok()) return sums.status();
    out.annotators.push_back(at->first.substr(sizeof kAnnotator - 1));
    if (sums->divergence[0].count > 0) {
      auto bootstrap = Load(state, absl::StrCat(kBootstrap, out.annotators.back()),
                            MeanBootstrap(kDivergences, replicates));
      if (!bootstrap.ok()) return bootstrap.status();
      sums->bootstrap = *std::move(bootstrap);
    }
    all.push_back(*std::move(sums));
  }
  Fill(all, classes, analysis.annotator);
  auto pairs = LoadPairs(state, Summary::PairNames(out.annotators), kPairs, PairAgreement(classes));
  if (!pairs.ok()) return pairs.status();
  analysis.pair = pairs->Pairs();
  analysis.cohen_kappa = pairs->PooledKappa();
  // Nobody's votes are far from a consensus that is not known.
  const std::vector<double> any(all.size() * classes, 1.0);
  analysis.alerts = FindAlerts(analysis, any, options);
  return out;
}

}  // namespace softloss::annotation
