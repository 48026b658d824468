#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "kernels/annotation/analysis_parts.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/pair_agreement.h"
#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {
namespace {

constexpr int kHistogramBins = 20;
constexpr int kMaxConfusionClasses = 256;
constexpr int kMaxMarginalClasses = 64;
// Pairs of votes on one item; beyond so many in all, pairs of annotators are not counted.
constexpr double kMaxPairs = 5e7;

double NumberOfPairs(const Votes& votes) {
  double pairs = 0;
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    const auto m = static_cast<double>(votes.item_begin(i + 1) - votes.item_begin(i));
    pairs += m * (m + 1) / 2;  // the model is one more voter
  }
  return pairs;
}

AgreementSums SumAgreement(const AnalysisInput& in) {
  const int classes = in.votes.num_classes();
  // Exact, so a sum a thread and any order will do; few, as each has K² numbers.
  const ItemBlocks blocks(in.votes, in.executor.concurrency());
  std::mutex mutex;
  AgreementSums total(classes);
  in.executor.ParallelFor(blocks.size(), [&](std::int64_t b) {
    const auto block = static_cast<int>(b);
    AgreementSums part(classes);
    for (std::int64_t i = blocks.begin(block); i < blocks.end(block); ++i)
      part.AddItem(in.votes, i);
    std::lock_guard<std::mutex> lock(mutex);
    total += part;
  });
  return total;
}

// Σ posterior_c·q_k over all votes: which class is voted for which.
std::vector<double> SumConfusion(const AnalysisInput& in) {
  const Votes& votes = in.votes;
  const int classes = votes.num_classes();
  if (classes > kMaxConfusionClasses) return {};
  std::vector<double> cells(static_cast<std::size_t>(classes) * classes);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    for (int c = 0; c < classes; ++c) {
      const double posterior = in.fit.posterior[i * classes + c];
      if (posterior == 0) continue;
      double* const row = cells.data() + static_cast<std::ptrdiff_t>(c) * classes;
      for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
        if (!votes.soft()) {
          row[votes.label(v)] += posterior;
          continue;
        }
        for (int k = 0; k < classes; ++k) row[k] += posterior * votes.probability(v, k);
      }
    }
  }
  return cells;
}

void SumCalibration(const AnalysisInput& in, Analysis& out) {
  const int classes = in.votes.num_classes();
  ReliabilityBins bins;
  std::vector<double> confidence, accuracy;
  for (std::int64_t i = 0; i < in.votes.num_items(); ++i) {
    const Row p = in.prediction(i);
    if (p.empty() || in.votes.item_begin(i) == in.votes.item_begin(i + 1)) continue;
    const std::int32_t answer = ArgMax(p);
    confidence.push_back(p[answer]);
    accuracy.push_back(in.fit.majority[i * classes + answer]);
    bins.Add(confidence.back(), accuracy.back());
  }
  out.ece_equal_width = bins.Error();
  out.ece_equal_mass = EqualMassCalibrationError(confidence, accuracy);
  if (!confidence.empty()) out.reliability = bins.Curve();
}

}  // namespace

void AnalyzeAgreement(const AnalysisInput& in, Analysis& out) {
  out.agreement = SumAgreement(in).Finish(in.options.class_values);
  out.cohen_kappa = std::nan("");
  if (NumberOfPairs(in.votes) <= kMaxPairs) {
    PairAgreement pairs(in.votes.num_classes(), in.votes.num_classes() <= kMaxMarginalClasses);
    for (std::int64_t i = 0; i < in.votes.num_items(); ++i) {
      pairs.AddItem(in.votes, i, in.prediction(i));
    }
    out.pair = pairs.Pairs();
    out.cohen_kappa = pairs.PooledKappa();
  }
  out.histogram.assign(kHistogramBins, 0);
  for (const double agreement : out.item.agreement) {
    if (std::isnan(agreement)) continue;
    ++out.histogram[std::min(static_cast<int>(agreement * kHistogramBins), kHistogramBins - 1)];
  }
  out.confusion = SumConfusion(in);
  SumCalibration(in, out);
}

}  // namespace softloss::annotation
