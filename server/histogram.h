// A histogram that many threads fill without waiting for each other or for a scrape.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

namespace softloss {

// `first`·{1, 2, 5, 10, 20, …} up to and including `last`; both are 1, 2 or 5 times a power of ten.
inline std::vector<double> Buckets125(double first, double last) {
  std::vector<double> bounds;
  for (int exponent = static_cast<int>(std::floor(std::log10(first) + 1e-9));; ++exponent) {
    for (double digit : {1.0, 2.0, 5.0}) {
      // Dividing by a power of ten that is exact gives the double nearest to the decimal.
      const double bound =
          exponent < 0 ? digit / std::pow(10, -exponent) : digit * std::pow(10, exponent);
      if (bound > last * (1 + 1e-9)) return bounds;
      if (bound > first * (1 - 1e-9)) bounds.push_back(bound);
    }
  }
}

// Thread-safe. A reader may see an observation's count before its sum.
class Histogram {
 public:
  // Upper bounds, ascending; a bucket includes its bound. One more bucket takes what is above.
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)),
        counts_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds_.size() + 1)) {}

  // False, and no effect, unless `value` is finite.
  bool Observe(double value) {
    if (!std::isfinite(value)) return false;
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    counts_[bucket].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
    return true;
  }

  const std::vector<double>& bounds() const { return bounds_; }
  std::uint64_t count(std::size_t bucket) const {
    return counts_[bucket].load(std::memory_order_relaxed);
  }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const std::vector<double> bounds_;
  const std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
};

}  // namespace softloss
