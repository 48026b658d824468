#include "kernels/annotation/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace softloss::annotation {

ReliabilityBins::ReliabilityBins(int bins) : sums_(bins) {}

void ReliabilityBins::Add(Row q, Row p) {
  const std::int32_t answer = ArgMax(p);
  Add(p[answer], q[answer]);
}

void ReliabilityBins::Add(std::int32_t label, Row p) {
  const std::int32_t answer = ArgMax(p);
  Add(p[answer], label == answer ? 1.0 : 0.0);
}

void ReliabilityBins::Add(double confidence, double accuracy) {
  const int bin = std::min(static_cast<int>(std::floor(confidence * num_bins())), num_bins() - 1);
  Sums& sums = sums_[std::max(bin, 0)];
  ++sums.count;
  sums.confidence += confidence;
  sums.accuracy += accuracy;
}

ReliabilityBins& ReliabilityBins::operator+=(const ReliabilityBins& other) {
  for (std::size_t b = 0; b < sums_.size(); ++b) {
    sums_[b].count += other.sums_[b].count;
    sums_[b].confidence += other.sums_[b].confidence;
    sums_[b].accuracy += other.sums_[b].accuracy;
  }
  return *this;
}

std::vector<ReliabilityBins::Bin> ReliabilityBins::Curve() const {
  std::vector<Bin> curve;
  const double n = num_bins();
  for (int b = 0; b < num_bins(); ++b) {
    const Sums& sums = sums_[b];
    const auto count = static_cast<double>(sums.count);
    curve.push_back({b / n, (b + 1) / n, sums.count, sums.confidence.value() / count,
                     sums.accuracy.value() / count});
  }
  return curve;
}

double ReliabilityBins::Error() const {
  std::int64_t count = 0;
  double sum = 0;
  for (const Sums& bin : sums_) {
    count += bin.count;
    sum += std::abs(bin.accuracy.value() - bin.confidence.value());
  }
  return sum / static_cast<double>(count);
}

double EqualMassCalibrationError(absl::Span<const double> confidence,
                                 absl::Span<const double> accuracy, int bins) {
  const std::size_t n = confidence.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [confidence](std::size_t a, std::size_t b) {
    return confidence[a] < confidence[b];
  });
  double error = 0;
  std::size_t begin = 0;
  for (std::size_t b = 0; b < static_cast<std::size_t>(bins); ++b) {
    const std::size_t length = n / bins + (b < n % bins ? 1 : 0);
    ExactSum gap;
    for (std::size_t i = begin; i < begin + length; ++i) {
      gap += accuracy[order[i]];
      gap += -confidence[order[i]];
    }
    error += std::abs(gap.value());
    begin += length;
  }
  return error / static_cast<double>(n);
}

}  // namespace softloss::annotation
