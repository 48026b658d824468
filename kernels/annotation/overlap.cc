#include "kernels/annotation/overlap.h"

namespace softloss::annotation {
namespace {

template <typename T>
void AddEach(absl::Span<const T> x, absl::Span<const T> y, Overlap& overlap) {
  for (std::size_t i = 0; i < x.size(); ++i) overlap.Add(x[i], y[i]);
}

}  // namespace

void Overlap::Add(absl::Span<const double> x, absl::Span<const double> y) { AddEach(x, y, *this); }

void Overlap::Add(absl::Span<const float> x, absl::Span<const float> y) { AddEach(x, y, *this); }

void Overlap::Add(absl::Span<const std::uint8_t> x, absl::Span<const std::uint8_t> y) {
  std::int64_t x_sum = 0, y_sum = 0, apart = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    x_sum += x[i];
    y_sum += y[i];
    apart += x[i] < y[i] ? y[i] - x[i] : x[i] - y[i];
  }
  a.Add(1, x_sum);
  b.Add(1, y_sum);
  difference.Add(1, apart);
}

}  // namespace softloss::annotation
