#include "kernels/annotation/row_scores.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace softloss::annotation {
namespace {

// The floor that keeps quotients of confidence-weighted entropy finite.
constexpr double kEntropyFloor = 1e-6;

double EntropyTerm(double p) { return p > 0 ? -p * std::log(p) : 0.0; }

double FlooredLog(double p) { return std::log(std::max(p, kProbabilityFloor)); }

double WeightedEntropy(double confidence, Row p) {
  const double entropy = Entropy(p) / std::log(static_cast<double>(p.size()));
  const double h = entropy / std::max(confidence, kEntropyFloor);
  return std::log(h + 1) / std::max(h, kEntropyFloor);
}

}  // namespace

double SelfConfidence(Row q, Row p) {
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) sum += q[k] * p[k];
  return sum;
}

double SelfConfidence(std::int32_t label, Row p) { return p[label]; }

double NormalizedMargin(Row q, Row p) {
  // The best rival of the likeliest class is the second likeliest; of any other it is the likeliest.
  const std::int32_t first = ArgMax(p);
  double second = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    if (static_cast<std::int32_t>(k) != first) second = std::max(second, p[k]);
  }
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    const double rival = static_cast<std::int32_t>(k) == first ? second : p[first];
    sum += q[k] * ((p[k] - rival + 1) / 2);
  }
  return sum;
}

double NormalizedMargin(std::int32_t label, Row p) {
  double rival = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    if (static_cast<std::int32_t>(k) != label) rival = std::max(rival, p[k]);
  }
  return (p[label] - rival + 1) / 2;
}

double ConfidenceWeightedEntropy(Row q, Row p) { return WeightedEntropy(SelfConfidence(q, p), p); }

double ConfidenceWeightedEntropy(std::int32_t label, Row p) { return WeightedEntropy(p[label], p); }

void AdjustProbabilities(Row p, Row thresholds, absl::Span<double> adjusted) {
  const double top = *std::max_element(thresholds.begin(), thresholds.end());
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) sum += p[k] - thresholds[k] + top;
  for (std::size_t k = 0; k < p.size(); ++k) adjusted[k] = (p[k] - thresholds[k] + top) / sum;
}

double Entropy(Row p) {
  double sum = 0;
  for (const double x : p) sum += EntropyTerm(x);
  return sum;
}

double InDistribution(Row p) { return 1 - Entropy(p) / std::log(static_cast<double>(p.size())); }

double CrossEntropy(Row q, Row p) {
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    if (q[k] > 0) sum -= q[k] * FlooredLog(p[k]);
  }
  return sum;
}

double CrossEntropy(std::int32_t label, Row p) { return -FlooredLog(p[label]); }

double KlDivergence(Row q, Row p) {
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    if (q[k] > 0) sum += q[k] * (std::log(q[k]) - FlooredLog(p[k]));
  }
  return sum;
}

double JensenShannon(Row q, Row p) {
  // By terms that are each not negative but for rounding: near 0 the difference of entropies would
  // be rounding alone.
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    const double mean = (q[k] + p[k]) / 2;
    if (q[k] > 0) sum += q[k] * std::log(q[k] / mean);
    if (p[k] > 0) sum += p[k] * std::log(p[k] / mean);
  }
  return std::max(sum / 2, 0.0);
}

double Brier(Row q, Row p) {
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) sum += (q[k] - p[k]) * (q[k] - p[k]);
  return sum;
}

double TotalVariation(Row q, Row p) {
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) sum += std::abs(q[k] - p[k]);
  return sum / 2;
}

double MultiLabelScore(Row q, Row p, double alpha) {
  std::vector<double> scores(p.size());
  for (std::size_t k = 0; k < p.size(); ++k) scores[k] = q[k] * p[k] + (1 - q[k]) * (1 - p[k]);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  double average = scores[0];
  for (std::size_t k = 1; k < scores.size(); ++k) {
    average = alpha * scores[k] + (1 - alpha) * average;
  }
  return average;
}

std::int32_t ArgMax(Row p) {
  return static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

}  // namespace softloss::annotation
