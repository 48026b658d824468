// Whether a model that says 80 % is right in 80 of 100 cases.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {

// Reliability by bins of equal width: an answer of confidence c = max P falls into bin
// min(⌊c·n⌋, n − 1), and is right with q[argmax P] (of a hard label: 1 or 0). A value that merges to
// the same bits in any order.
class ReliabilityBins {
 public:
  struct Bin {
    double low, high;  // edges
    std::int64_t count;
    double confidence, accuracy;  // means; NaN of an empty bin
  };
  static constexpr int kDefaultBins = 15;

  explicit ReliabilityBins(int bins = kDefaultBins);  // ≥ 1
  void Add(Row q, Row p);
  void Add(std::int32_t label, Row p);
  // confidence and accuracy in [0, 1].
  void Add(double confidence, double accuracy);
  ReliabilityBins& operator+=(const ReliabilityBins& other);  // of as many bins

  std::vector<Bin> Curve() const;
  // Expected calibration error, Σ share of the bin · |accuracy − confidence|. NaN of no answers.
  double Error() const;

  int num_bins() const { return static_cast<int>(sums_.size()); }
  friend bool operator==(const ReliabilityBins&, const ReliabilityBins&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (Sums& bin : sums_) {
      visitor(bin.confidence);
      visitor(bin.accuracy);
    }
  }
  template <typename Visitor>
  void VisitCounts(Visitor&& visitor) {
    for (Sums& bin : sums_) visitor(bin.count);
  }

 private:
  struct Sums {
    std::int64_t count = 0;
    ExactSum confidence, accuracy;
    friend bool operator==(const Sums&, const Sums&) = default;
  };
  std::vector<Sums> sums_;
};

// The same error over bins of equal mass: the answers by confidence (equals in given order), cut into
// bins of equal length, the first n mod bins of them one longer. Spans are of equal length n; NaN of
// no answers. Needs all answers at once.
double EqualMassCalibrationError(absl::Span<const double> confidence,
                                 absl::Span<const double> accuracy,
                                 int bins = ReliabilityBins::kDefaultBins);

}  // namespace softloss::annotation
