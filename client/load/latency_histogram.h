// Latencies in buckets whose width is a thousandth of their value, after HdrHistogram: any quantile of
// any number of them, in 280 KiB.
#pragma once

#include <cstdint>
#include <vector>

namespace softloss::load {

// Not thread-safe.
class LatencyHistogram {
 public:
  LatencyHistogram();

  // Nanoseconds; below 0 counts as 0, above kLargest as kLargest.
  void Record(std::int64_t ns);
  LatencyHistogram& operator+=(const LatencyHistogram& other);

  static constexpr std::int64_t kLargest = (std::int64_t{1} << 42) - 1;  // 73 minutes

  std::int64_t count() const { return count_; }
  std::int64_t max() const { return max_; }  // exact; 0 of none
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

  // The value that a share `q` of all, in [0, 1], does not exceed: at most 0.1 % above the one that was
  // recorded. 0 of none.
  std::int64_t Quantile(double q) const;

  // How many exceed a value, to within its bucket.
  std::int64_t CountAbove(std::int64_t ns) const;

 private:
  std::vector<std::int64_t> counts_;
  std::int64_t count_ = 0, max_ = 0;
  double sum_ = 0;
};

}  // namespace softloss::load
