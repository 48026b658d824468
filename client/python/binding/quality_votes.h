// Votes and distributions as NumPy arrays.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include <nanobind/ndarray.h>

#include "absl/types/span.h"
#include "kernels/annotation/votes.h"

namespace softloss::python {

template <typename T>
using Vector =
    nanobind::ndarray<const T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using Matrix =
    nanobind::ndarray<const double, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;

template <typename Array>
auto SpanOf(const Array& array) {
  return absl::MakeConstSpan(array.data(), array.size());
}
template <typename Array>
auto SpanOf(const std::optional<Array>& array) {
  using Span = decltype(SpanOf(*array));
  return array.has_value() ? SpanOf(*array) : Span();
}

// [items, K]; rows of NaN are items without one.
inline annotation::Distributions FromRows(const Matrix& rows) {
  const std::size_t classes = rows.shape(1);
  annotation::Distributions out;
  out.probability.assign(rows.data(), rows.data() + rows.size());
  for (std::size_t i = 0; i < rows.shape(0); ++i) {
    double* const row = out.probability.data() + i * classes;
    const bool absent = std::all_of(row, row + classes, [](double p) { return std::isnan(p); });
    if (absent) std::fill_n(row, classes, 0.0);
    out.present.push_back(!absent);
  }
  return out;
}

}  // namespace softloss::python
