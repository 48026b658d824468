#include "kernels/annotation/crowdlab.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/container/inlined_vector.h"
#include "kernels/annotation/crowdlab_majority.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/item_blocks.h"

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr double kLeast = 1e-6;  // ε

// How far annotators and model are trusted, by a consensus.
struct Trust {
  double likelihood = 1;       // c
  double model = 1;            // w_M, before its √(mean votes an item)
  std::vector<double> weight;  // w_r
};

class Fitter {
 public:
  Fitter(const Votes& votes, const Distributions* predictions, Executor& executor)
      : votes_(votes), predictions_(predictions), executor_(executor) {
    for (std::int64_t i = 0; i < votes.num_items(); ++i) with_votes_ += Count(i) > 0;
    mean_votes_ = static_cast<double>(votes.size()) / static_cast<double>(with_votes_);
    any_prediction_ = predictions != nullptr &&
                      std::any_of(predictions->present.begin(), predictions->present.end(),
                                  [](std::uint8_t p) { return p != 0; });
    FindAgreements();
  }

  // Weights and posterior by a consensus that is given.
  void Fit(const std::vector<std::int32_t>& label, Crowdlab& out) const {
    const Trust trust = FindTrust(label);
    out.weight = trust.weight;
    out.model_weight = any_prediction_ ? trust.model * (shares_ ? std::sqrt(mean_votes_) : 1) : 0;
    const int classes = votes_.num_classes();
    const double other = (1 - trust.likelihood) / (classes - 1);
    out.consensus.posterior.assign(votes_.num_items() * classes, 0.0);
    ForEachItem(votes_, executor_, [&](std::int64_t i) {
      double* const p = out.consensus.posterior.data() + i * classes;
      double total = 0;
      if (Present(predictions_, i)) {
        const double* const given = predictions_->probability.data() + i * classes;
        // The model is alone with an item without votes, whatever its weight.
        const double weight = Count(i) > 0 ? out.model_weight : 1;
        for (int k = 0; k < classes; ++k) p[k] = given[k] * weight;
        total = weight;
      }
      double voted = 0;
      for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
        const double weight = out.weight[votes_.annotator(v)] * votes_.weight(v);
        voted += weight;
        for (int k = 0; k < classes; ++k) {
          const double q = votes_.probability(v, k);
          p[k] += weight * (q * trust.likelihood + (1 - q) * other);
        }
      }
      total += voted;
      for (int k = 0; k < classes; ++k) p[k] = total > 0 ? p[k] / total : 1.0 / classes;
    });
  }

  // Everything else of `out`, whose posterior, weights and labels are set.
  void Describe(Crowdlab& out) const {
    const int classes = votes_.num_classes();
    out.quality.resize(votes_.num_items());
    out.agreement.resize(votes_.num_items());
    ForEachItem(votes_, executor_, [&](std::int64_t i) {
      out.quality[i] = out.consensus.posterior[i * classes + out.label[i]];
      out.agreement[i] = Agreement(i, out.label[i]);
    });
    // An annotator: Σw and Σw·q[label], over all items and over those with two votes; Σw·q·posterior;
    // and a class that they voted: Σw, Σw·q[label], Σw·quality.
    const std::int64_t width = 5 + 3 * std::int64_t{classes};
    const std::vector<double> sums = SumOverItems(
        votes_, executor_, width * votes_.num_annotators(), [&](std::int64_t i, double* cells) {
          for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
            Describe(out, i, v, cells + width * votes_.annotator(v));
          }
        });
    double weights = 0;
    int people = 0;
    for (const double w : out.weight) {
      if (std::isnan(w)) continue;
      weights += w;
      ++people;
    }
    const double model = out.model_weight / (out.model_weight + weights * (mean_votes_ / people));
    for (int r = 0; r < votes_.num_annotators(); ++r) {
      const double* const own = sums.data() + width * r;
      out.agreement_with_consensus.push_back(own[1] / own[0]);  // 0 / 0 is NaN: no votes
      const double likelihood = own[4] / own[0];
      out.consensus.skill.push_back(
          own[2] > 0 ? model * likelihood + (1 - model) * (own[3] / own[2]) : likelihood);
      out.worst_class.push_back(WorstClass(own + 5));
    }
  }

 private:
  std::int64_t Count(std::int64_t i) const {
    return votes_.item_begin(i + 1) - votes_.item_begin(i);
  }

  // Σw·q[label] / Σw of an item's votes.
  double Agreement(std::int64_t i, std::int32_t label) const {
    double agreeing = 0, all = 0;
    for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
      agreeing += votes_.weight(v) * votes_.probability(v, label);
      all += votes_.weight(v);
    }
    return agreeing / all;  // 0 / 0 is NaN: no votes
  }

  // A_r, of pairs of votes on an item: Σ w·w'·q·q' / Σ w·w', by the item's sums.
  void FindAgreements() {
    const int classes = votes_.num_classes(), annotators = votes_.num_annotators();
    const std::vector<double> sums = SumOverItems(
        votes_, executor_, 3 * std::int64_t{annotators}, [&](std::int64_t i, double* cells) {
          const std::int64_t begin = votes_.item_begin(i), end = votes_.item_begin(i + 1);
          double all = 0;
          for (std::int64_t v = begin; v < end; ++v) {
            all += votes_.weight(v);
            cells[3 * std::int64_t{votes_.annotator(v)} + 2] += 1;
          }
          if (end - begin < 2) return;
          absl::InlinedVector<double, 16> sum(classes, 0.0);  // Σ w·q
          for (std::int64_t v = begin; v < end; ++v) AddVote(v, sum.data());
          for (std::int64_t v = begin; v < end; ++v) {
            const double weight = votes_.weight(v);
            double* const own = cells + 3 * std::int64_t{votes_.annotator(v)};
            own[0] += weight * AgreementWithOthers(v, sum.data());
            own[1] += weight * (all - weight);
          }
        });
    agreement_.assign(annotators, kUndefined);
    double total = 0;
    int sharing = 0;
    for (int r = 0; r < annotators; ++r) {
      if (!(sums[3 * r + 1] > 0)) continue;
      total += agreement_[r] = sums[3 * r] / sums[3 * r + 1];
      ++sharing;
    }
    shares_ = sharing > 0;
    for (int r = 0; r < annotators; ++r) {
      if (std::isnan(agreement_[r]) && sums[3 * r + 2] > 0)
        agreement_[r] = shares_ ? total / sharing : 1;
    }
  }

  void AddVote(std::int64_t v, double* sum) const {
    if (!votes_.soft()) {
      sum[votes_.label(v)] += votes_.weight(v);
      return;
    }
    const auto q = votes_.probabilities(v);
    for (std::size_t k = 0; k < q.size(); ++k) sum[k] += votes_.weight(v) * q[k];
  }

  // q·(sum − w·q)
  double AgreementWithOthers(std::int64_t v, const double* sum) const {
    if (!votes_.soft()) return sum[votes_.label(v)] - votes_.weight(v);
    const auto q = votes_.probabilities(v);
    double product = 0;
    for (std::size_t k = 0; k < q.size(); ++k) product += q[k] * (sum[k] - votes_.weight(v) * q[k]);
    return product;
  }

  Trust FindTrust(const std::vector<std::int32_t>& label) const {
    Trust trust;
    trust.weight = agreement_;
    if (!shares_) return trust;  // weights of 1, and NaN for those without votes
    const int classes = votes_.num_classes();
    // Over items with two votes: their number, Σ agreement, predictions, wrong ones; a class's items.
    const std::vector<double> sums =
        SumOverItems(votes_, executor_, 4 + classes, [&](std::int64_t i, double* cells) {
          if (Count(i) < 2) return;
          cells[0] += 1;
          cells[1] += Agreement(i, label[i]);
          cells[4 + label[i]] += 1;
          if (!Present(predictions_, i)) return;
          const auto row = predictions_->probability.begin() + i * classes;
          cells[2] += 1;
          cells[3] += std::max_element(row, row + classes) - row != label[i];
        });
    trust.likelihood = sums[1] / sums[0];
    const double commonest = *std::max_element(sums.begin() + 4, sums.end());
    const double baseline = std::max((sums[0] - commonest) / sums[0], kLeast);
    for (double& w : trust.weight) {
      if (!std::isnan(w)) w = std::max(1 - (1 - w) / baseline, kLeast);
    }
    const double error = sums[2] > 0 ? sums[3] / sums[2] : 0;
    trust.model = std::max(1 - error / baseline, kLeast);
    return trust;
  }

  void Describe(const Crowdlab& out, std::int64_t i, std::int64_t v, double* own) const {
    const int classes = votes_.num_classes();
    const double weight = votes_.weight(v);
    const double agreeing = weight * votes_.probability(v, out.label[i]);
    own[0] += weight;
    own[1] += agreeing;
    if (Count(i) > 1) {
      own[2] += weight;
      own[3] += agreeing;
    }
    for (int k = 0; k < classes; ++k) {
      own[4] += weight * votes_.probability(v, k) * out.consensus.posterior[i * classes + k];
    }
    double* const of_class = own + 5 + 3 * std::int64_t{votes_.label(v)};
    of_class[0] += weight;
    of_class[1] += agreeing;
    of_class[2] += weight * out.quality[i];
  }

  // By [K, 3] Σw, Σw·q[label], Σw·quality; −1 of no votes.
  std::int32_t WorstClass(const double* sums) const {
    std::int32_t worst = -1;
    for (std::int32_t k = 0; k < votes_.num_classes(); ++k) {
      const double* const a = sums + 3 * k;
      if (a[0] == 0) continue;
      if (worst < 0) {
        worst = k;
        continue;
      }
      const double* const b = sums + 3 * worst;
      const double agreement_a = a[1] / a[0], agreement_b = b[1] / b[0];
      if (agreement_a != agreement_b ? agreement_a < agreement_b
          : a[0] != b[0]             ? a[0] > b[0]
                                     : a[2] / a[0] > b[2] / b[0]) {
        worst = k;
      }
    }
    return worst;
  }

  const Votes& votes_;
  const Distributions* const predictions_;
  Executor& executor_;
  std::int64_t with_votes_ = 0;  // items
  double mean_votes_ = 0;        // on such an item
  bool any_prediction_ = false;
  bool shares_ = false;            // an item has two votes
  std::vector<double> agreement_;  // [annotators] A_r, or what stands for it; NaN without votes
};

}  // namespace

absl::StatusOr<Crowdlab> FitCrowdlab(const Votes& votes, const Distributions* predictions,
                                     Executor& executor) {
  const int classes = votes.num_classes();
  if (auto s = CheckDistributions("predictions", predictions, votes.num_items(), classes);
      !s.ok()) {
    return s;
  }
  const std::vector<std::int32_t> majority = TieBrokenMajority(votes, predictions, executor);
  const Fitter fitter(votes, predictions, executor);
  Crowdlab out;
  fitter.Fit(majority, out);
  out.label.resize(votes.num_items());
  ForEachItem(votes, executor, [&](std::int64_t i) {
    const double* const p = out.consensus.posterior.data() + i * classes;
    const double highest = *std::max_element(p, p + classes);
    out.label[i] = std::count(p, p + classes, highest) == 1
                       ? static_cast<std::int32_t>(std::find(p, p + classes, highest) - p)
                       : majority[i];
  });
  fitter.Fit(out.label, out);
  fitter.Describe(out);
  return out;
}

std::vector<double> ActiveLabScores(const Votes& votes, const Distributions* predictions,
                                    const Crowdlab& crowdlab) {
  double weights = 0;
  int people = 0;
  for (const double w : crowdlab.weight) {
    if (std::isnan(w)) continue;
    weights += w;
    ++people;
  }
  const double mean = people > 0 ? weights / people : 1;
  std::vector<double> score(votes.num_items());
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    double trust = 0;
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
      trust += crowdlab.weight[votes.annotator(v)];
    }
    if (Present(predictions, i)) trust += crowdlab.model_weight;
    score[i] = (trust * crowdlab.quality[i] + mean / votes.num_classes()) / (trust + mean);
  }
  return score;
}

}  // namespace softloss::annotation
