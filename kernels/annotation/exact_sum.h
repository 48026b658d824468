// Sums that do not depend on their order.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

namespace softloss::annotation {

// A sum of doubles in signed 128-bit fixed point. Each term is rounded once, to the nearest multiple
// of 2^-72 (ties to even; terms of at least 2^-19 are multiples already); whole numbers add without
// error, so that any order and any grouping of the same terms gives the same bits.
//
// Range: sums below 2^55 (3.6e16) in magnitude. Resolution: 2^-72 (2.1e-22). A term that is not
// finite, and a sum that leaves the range, make the sum invalid for good; value() is then NaN. (Where
// the terms are of one sign, whether the range is left does not depend on the order either.)
//
// A value of 16 bytes; const methods are thread-safe.
class ExactSum {
 public:
  static constexpr int kFractionBits = 72;
  static constexpr int kBytes = 16;

  constexpr ExactSum() = default;
  explicit ExactSum(double term) { Add(term); }

  void Add(double term) { AddUnits(Units(term)); }
  // As many times term as copies says.
  void Add(double term, std::int64_t copies) {
    const Int128 units = Units(term);
    Int128 product;
    if (units == kInvalid || __builtin_mul_overflow(units, copies, &product)) product = kInvalid;
    AddUnits(product);
  }
  ExactSum& operator+=(double term) {
    Add(term);
    return *this;
  }
  ExactSum& operator+=(const ExactSum& other) {
    AddUnits(other.units_);
    return *this;
  }
  // Takes out what was added: sums of the same terms are equal again.
  ExactSum& operator-=(const ExactSum& other) {
    AddUnits(other.units_ == kInvalid ? kInvalid : -other.units_);
    return *this;
  }

  bool valid() const { return units_ != kInvalid; }
  // The sum, rounded correctly to a double; NaN where invalid.
  double value() const {
    return valid() ? static_cast<double>(units_) * 0x1p-72
                   : std::numeric_limits<double>::quiet_NaN();
  }

  // The units, two's complement, least byte first.
  std::array<char, kBytes> ToBytes() const;
  static ExactSum FromBytes(const std::array<char, kBytes>& bytes);

  friend bool operator==(const ExactSum& a, const ExactSum& b) { return a.units_ == b.units_; }

 private:
  __extension__ typedef __int128 Int128;
  // The one number without a negative stands for "invalid", and absorbs all that is added.
  static constexpr Int128 kInvalid = static_cast<Int128>(1) << 126 << 1;

  static Int128 Units(double term) {
    const auto bits = std::bit_cast<std::uint64_t>(term);
    const int exponent = static_cast<int>(bits >> 52 & 0x7FF);
    if (exponent == 0) return 0;  // zeros, and subnormals, which are far below the resolution
    const std::uint64_t magnitude = (bits & 0xFFFFFFFFFFFFFu) | 0x10000000000000u;
    const int shift = exponent - 1075 + kFractionBits;
    if (shift > 74) return kInvalid;
    Int128 units;
    if (shift >= 0) {
      units = static_cast<Int128>(magnitude) << shift;
    } else if (shift < -53) {
      units = 0;
    } else {
      const std::uint64_t floor = magnitude >> -shift;
      const std::uint64_t rest = magnitude - (floor << -shift);
      const std::uint64_t half = std::uint64_t{1} << (-shift - 1);
      units = floor + (rest > half || (rest == half && floor % 2 == 1) ? 1 : 0);
    }
    return bits >> 63 != 0 ? -units : units;
  }
  void AddUnits(Int128 units) {
    if (units == kInvalid || !valid() || __builtin_add_overflow(units_, units, &units_)) {
      units_ = kInvalid;
    }
  }

  Int128 units_ = 0;
};

// The mean of weighted terms, from sums. Merges by operator+=.
struct WeightedMean {
  std::int64_t count = 0;
  ExactSum weight;          // Σ w
  ExactSum weighted;        // Σ w·x
  ExactSum weight_squares;  // Σ w²

  void Add(double x, double w = 1) {
    ++count;
    weight += w;
    weighted += w * x;
    weight_squares += w * w;
  }
  WeightedMean& operator+=(const WeightedMean& other) {
    count += other.count;
    weight += other.weight;
    weighted += other.weighted;
    weight_squares += other.weight_squares;
    return *this;
  }
  // NaN of no terms.
  double mean() const { return weighted.value() / weight.value(); }
  // Kish's effective number, (Σ w)² / Σ w²: the count, where weights are equal. NaN of no terms.
  double effective_count() const {
    return weight.value() * weight.value() / weight_squares.value();
  }
  friend bool operator==(const WeightedMean&, const WeightedMean&) = default;
  template <typename Visitor>  // visitor(ExactSum&), in a fixed order: for state files
  void VisitSums(Visitor&& visitor) {
    for (ExactSum* sum : {&weight, &weighted, &weight_squares}) visitor(*sum);
  }
  template <typename Visitor>  // visitor(std::int64_t&)
  void VisitCounts(Visitor&& visitor) {
    visitor(count);
  }
};

}  // namespace softloss::annotation
