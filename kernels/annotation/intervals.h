// How sure a figure is: 95 % intervals.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"

namespace softloss::annotation {

struct Interval {
  double low, high;
};

// The normal distribution's two-sided 95 % point.
inline constexpr double kZ95 = 1.959963984540054;

// Wilson's score interval of a share in [0, 1] of n (Wilson 1927); of weighted shares n is the
// effective number (WeightedMean::effective_count). Also good, and on the safe side, for means of
// values in [0, 1], whose variance is at most a share's. NaN where n is not positive.
Interval WilsonInterval(double share, double n, double z = kZ95);

// A number for an item that is the same wherever the item is met.
std::uint64_t ItemKey(std::string_view name);

// Intervals of means Σ w·x / Σ w over items, by Poisson bootstrap (Chamandy et al. 2012): in replicate
// b an item counts as often as a draw of the Poisson distribution of mean 1 that is a pure function
// of (item, b). Replicates are thus sums over items, whose bits depend neither on the order of the
// items nor on who added them, and which merge; two terms of one item are redrawn together.
//
// Several means over the same items and weights share the work: x is [means]. A value.
class MeanBootstrap {
 public:
  static constexpr int kDefaultReplicates = 200;

  explicit MeanBootstrap(int means = 1, int replicates = kDefaultReplicates);
  void Add(std::uint64_t item, absl::Span<const double> x, double w = 1);
  void Add(std::uint64_t item, double x, double w = 1) { Add(item, {&x, 1}, w); }
  MeanBootstrap& operator+=(const MeanBootstrap& other);  // of as many means and replicates

  // The replicates' percentiles between which `coverage` of them are, interpolated linearly; of
  // replicates that drew any item. NaN where fewer than two did.
  Interval Percentiles(int mean = 0, double coverage = 0.95) const;

  friend bool operator==(const MeanBootstrap&, const MeanBootstrap&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum& sum : sums_) visitor(sum);
  }

 private:
  int means_, replicates_;
  std::vector<ExactSum> sums_;  // [means + 1, replicates]: Σ w·x of each mean, then Σ w
};

// The draws of an item for replicates 0, 1, …: what MeanBootstrap multiplies by.
void PoissonDraws(std::uint64_t item, absl::Span<std::uint8_t> draws);

}  // namespace softloss::annotation
