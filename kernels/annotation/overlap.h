// How far two masks cover the same ground: Dice and IoU, right on soft masks, too.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"

namespace softloss::annotation {

// Masks are numbers ≥ 0 a pixel, of one scale; both figures do not depend on which. What two have in
// common is Σ min(a, b) = (Σa + Σb − Σ|a − b|)/2, so that a mask overlaps itself fully (Σ a·b, which
// is often taken, says less of soft ones), and that of 0/1 masks the figures are those of sets. A
// value that merges to the same bits in any order.
struct Overlap {
  ExactSum a, b, difference;  // Σa, Σb, Σ|a − b|

  void Add(double x, double y) {
    a += x;
    b += y;
    difference += x < y ? y - x : x - y;
  }
  void Add(absl::Span<const double> x, absl::Span<const double> y);
  void Add(absl::Span<const float> x, absl::Span<const float> y);
  void Add(absl::Span<const std::uint8_t> x, absl::Span<const std::uint8_t> y);
  Overlap& operator+=(const Overlap& other) {
    a += other.a;
    b += other.b;
    difference += other.difference;
    return *this;
  }

  // NaN where both are empty.
  double dice() const {  // 2·common/(Σa + Σb)
    const double both = a.value() + b.value();
    return (both - difference.value()) / both;
  }
  double iou() const {  // common/(Σa + Σb − common)
    const double both = a.value() + b.value();
    return (both - difference.value()) / (both + difference.value());
  }
  friend bool operator==(const Overlap&, const Overlap&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum* sum : {&a, &b, &difference}) visitor(*sum);
  }
};

}  // namespace softloss::annotation
