#include "kernels/annotation/analysis_columns.h"

#include <utility>

namespace softloss::annotation {
namespace {

// Collects columns; shapes beyond the length are said by the caller.
class Columns {
 public:
  void Add(std::string name, std::vector<double> values) {
    const auto n = static_cast<std::int64_t>(values.size());
    Add(std::move(name), {n}, std::move(values));
  }
  void Add(std::string name, std::vector<std::int64_t> shape, std::vector<double> values) {
    out_.push_back({std::move(name), std::move(shape), std::move(values)});
  }
  void Add(std::string name, std::vector<std::int64_t> values) {
    const auto n = static_cast<std::int64_t>(values.size());
    out_.push_back({std::move(name), {n}, std::move(values)});
  }
  void Add(std::string name, const std::vector<Figure>& figures) {
    std::vector<double> values;
    values.reserve(figures.size() * 4);
    for (const Figure& f : figures) values.insert(values.end(), {f.value, f.low, f.high, f.n});
    Add(std::move(name), {static_cast<std::int64_t>(figures.size()), 4}, std::move(values));
  }
  // A column of one field of each element.
  template <typename T, typename Field>
  void AddField(std::string name, const std::vector<T>& elements, Field field) {
    using Value = decltype(field(elements[0]));
    std::vector<Value> values;
    values.reserve(elements.size());
    for (const T& element : elements) values.push_back(field(element));
    Add(std::move(name), std::move(values));
  }

  std::vector<Column> Take() { return std::move(out_); }

 private:
  std::vector<Column> out_;
};

void AddAnnotators(const AnnotatorColumns& a, std::int64_t classes, Columns& out) {
  const auto annotators = static_cast<std::int64_t>(a.votes.size());
  out.Add("annotator.votes", a.votes);
  out.Add("annotator.weight", a.weight);
  out.Add("annotator.quality", a.quality);
  out.Add("annotator.agreement_consensus", a.agreement_consensus);
  out.Add("annotator.agreement_peers", a.agreement_peers);
  out.Add("annotator.agreement_gold", a.agreement_gold);
  out.Add("annotator.agreement_model", a.agreement_model);
  out.Add("annotator.cross_entropy", a.cross_entropy);
  out.Add("annotator.kl", a.kl);
  out.Add("annotator.js", a.js);
  out.Add("annotator.brier", a.brier);
  out.Add("annotator.tv", a.tv);
  out.Add("annotator.accuracy", a.accuracy);
  out.Add("annotator.spammer", a.spammer);
  out.Add("annotator.uncertainty", a.uncertainty);
  out.Add("annotator.class_share", {annotators, classes}, a.class_share);
  if (!a.confusion.empty()) {
    out.Add("annotator.confusion", {annotators, classes, classes}, a.confusion);
  }
}

void AddItems(const ItemColumns& i, Columns& out) {
  out.Add("item.votes", i.votes);
  out.Add("item.consensus", i.consensus);
  out.Add("item.confidence", i.confidence);
  out.Add("item.majority", i.majority);
  out.Add("item.label_quality", i.label_quality);
  out.Add("item.entropy", i.entropy);
  out.Add("item.mean_entropy", i.mean_entropy);
  out.Add("item.js", i.js);
  out.Add("item.agreement", i.agreement);
  out.Add("item.model_cross_entropy", i.model_cross_entropy);
  out.Add("item.self_confidence", i.self_confidence);
  out.Add("item.normalized_margin", i.normalized_margin);
  out.Add("item.confidence_weighted_entropy", i.confidence_weighted_entropy);
  out.Add("item.adjusted_self_confidence", i.adjusted_self_confidence);
  out.Add("item.adjusted_normalized_margin", i.adjusted_normalized_margin);
  out.Add("item.in_distribution", i.in_distribution);
  out.Add("item.active_lab", i.active_lab);
  out.Add("item.consistency", i.consistency);
  out.Add("item.uncertainty", i.uncertainty);
  out.Add("item.gold", i.gold);
  out.Add("item.issue", i.issue);
}

void AddAgreement(const Analysis& a, Columns& out) {
  using Bin = ReliabilityBins::Bin;
  const std::int64_t classes = a.num_classes;
  out.Add("agreement.alpha_nominal", std::vector{a.agreement.alpha_nominal});
  out.Add("agreement.alpha_ordinal", std::vector{a.agreement.alpha_ordinal});
  out.Add("agreement.alpha_interval", std::vector{a.agreement.alpha_interval});
  out.Add("agreement.alpha_soft", std::vector{a.agreement.alpha_soft});
  out.Add("agreement.fleiss_kappa", std::vector{a.agreement.fleiss_kappa});
  out.Add("agreement.cohen_kappa", std::vector{a.cohen_kappa});
  out.Add("agreement.percent", std::vector{a.agreement.percent});
  out.Add("agreement.items", std::vector{a.agreement.items});
  out.AddField("pair.a", a.pair, [](const PairFigure& p) { return std::int64_t{p.a}; });
  out.AddField("pair.b", a.pair, [](const PairFigure& p) { return std::int64_t{p.b}; });
  out.AddField("pair.items", a.pair, [](const PairFigure& p) { return p.items; });
  out.AddField("pair.agreement", a.pair, [](const PairFigure& p) { return p.agreement; });
  out.AddField("pair.cohen_kappa", a.pair, [](const PairFigure& p) { return p.cohen_kappa; });
  out.Add("histogram", a.histogram);
  if (!a.confusion.empty()) out.Add("confusion", {classes, classes}, a.confusion);
  if (a.reliability.empty()) return;
  out.AddField("reliability.low", a.reliability, [](const Bin& b) { return b.low; });
  out.AddField("reliability.high", a.reliability, [](const Bin& b) { return b.high; });
  out.AddField("reliability.count", a.reliability, [](const Bin& b) { return b.count; });
  out.AddField("reliability.confidence", a.reliability, [](const Bin& b) { return b.confidence; });
  out.AddField("reliability.accuracy", a.reliability, [](const Bin& b) { return b.accuracy; });
  out.Add("reliability.ece_equal_width", std::vector{a.ece_equal_width});
  out.Add("reliability.ece_equal_mass", std::vector{a.ece_equal_mass});
  out.Add("reliability.temperature", std::vector{a.temperature});
}

}  // namespace

std::vector<Column> ToColumns(const Analysis& a) {
  Columns out;
  const std::int64_t classes = a.num_classes;
  out.Add("method", std::vector{static_cast<std::int64_t>(a.method)});
  AddAnnotators(a.annotator, classes, out);
  AddItems(a.item, out);
  out.Add("item.posterior", {static_cast<std::int64_t>(a.item.votes.size()), classes}, a.posterior);
  out.Add("class.votes", a.class_.votes);
  out.Add("class.consensus_items", a.class_.consensus_items);
  out.Add("class.prior", a.class_.prior);
  out.Add("class.agreement", a.class_.agreement);
  out.Add("class.self_confidence", a.class_.self_confidence);
  out.Add("class.issues", a.class_.issues);
  out.Add("class.estimated_noise", a.class_.estimated_noise);
  AddAgreement(a, out);
  out.Add("worklist.item", a.worklist);
  out.AddField("worklist.reason", a.reason,
               [](WorklistReason reason) { return static_cast<std::int64_t>(reason); });
  out.AddField("drift.annotator", a.drift, [](const DriftWindow& w) { return w.annotator; });
  out.AddField("drift.start", a.drift, [](const DriftWindow& w) { return w.start; });
  out.AddField("drift.end", a.drift, [](const DriftWindow& w) { return w.end; });
  out.AddField("drift.agreement", a.drift, [](const DriftWindow& w) { return w.agreement; });
  out.AddField("alert.kind", a.alerts,
               [](const Alert& x) { return static_cast<std::int64_t>(x.kind); });
  out.AddField("alert.annotator", a.alerts, [](const Alert& x) { return x.annotator; });
  out.AddField("alert.figure", a.alerts, [](const Alert& x) { return x.figure; });
  out.AddField("alert.threshold", a.alerts, [](const Alert& x) { return x.threshold; });
  return out.Take();
}

}  // namespace softloss::annotation
