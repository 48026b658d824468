#include "client/load/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace softloss::load {
namespace {

// Values below 2^11 have buckets of their own; each octave above has 2^10.
constexpr int kBits = 10;

std::size_t BucketOf(std::int64_t ns) {
  const auto value = static_cast<std::uint64_t>(ns);
  const int octave = std::max(static_cast<int>(std::bit_width(value)) - (kBits + 1), 0);
  return (static_cast<std::size_t>(octave) << kBits) + (value >> octave);
}

// The largest value in a bucket.
std::int64_t TopOf(std::size_t bucket) {
  const int octave = std::max(static_cast<int>(bucket >> kBits) - 1, 0);
  const std::uint64_t mantissa = bucket - (static_cast<std::size_t>(octave) << kBits);
  return static_cast<std::int64_t>(((mantissa + 1) << octave) - 1);
}

}  // namespace

LatencyHistogram::LatencyHistogram() : counts_(BucketOf(kLargest) + 1) {}

void LatencyHistogram::Record(std::int64_t ns) {
  ns = std::clamp<std::int64_t>(ns, 0, kLargest);
  ++counts_[BucketOf(ns)];
  ++count_;
  max_ = std::max(max_, ns);
  sum_ += static_cast<double>(ns);
}

LatencyHistogram& LatencyHistogram::operator+=(const LatencyHistogram& other) {
  for (std::size_t b = 0; b < counts_.size(); ++b) counts_[b] += other.counts_[b];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  return *this;
}

std::int64_t LatencyHistogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  const auto rank = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(std::ceil(q * static_cast<double>(count_))), 1, count_);
  std::int64_t below = 0;
  for (std::size_t b = 0; b < counts_.size(); ++b) {
    below += counts_[b];
    if (below >= rank) return std::min(TopOf(b), max_);
  }
  return max_;
}

std::int64_t LatencyHistogram::CountAbove(std::int64_t ns) const {
  std::int64_t above = 0;
  for (std::size_t b = BucketOf(std::clamp<std::int64_t>(ns, 0, kLargest)) + 1; b < counts_.size();
       ++b) {
    above += counts_[b];
  }
  return above;
}

}  // namespace softloss::load
