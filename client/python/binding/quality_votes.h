// Votes and distributions as they come from NumPy, and columns as they go back.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/python/binding/columns.h"
#include "client/python/binding/status.h"
#include "client/python/binding/thread_executor.h"
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

// Optional rows, kept, and handed on as the pointer that the library takes.
class OptionalRows {
 public:
  explicit OptionalRows(const std::optional<Matrix>& rows) {
    if (rows.has_value()) rows_ = FromRows(*rows);
  }
  const annotation::Distributions* get() const { return rows_ ? &*rows_ : nullptr; }

 private:
  std::optional<annotation::Distributions> rows_;
};

// 0: one a core.
inline int Threads(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency());
}

inline annotation::Column Doubles(std::string name, std::vector<std::int64_t> shape,
                                  std::vector<double> values) {
  return {std::move(name), std::move(shape), std::move(values)};
}
template <typename T>
annotation::Column Integers(std::string name, std::vector<std::int64_t> shape,
                            const std::vector<T>& values) {
  return {std::move(name), std::move(shape),
          std::vector<std::int64_t>(values.begin(), values.end())};
}

// Runs work(executor) -> StatusOr<columns> without the GIL.
template <typename Work>
nanobind::dict Columns(int threads, Work work) {
  absl::StatusOr<std::vector<annotation::Column>> columns;
  {
    nanobind::gil_scoped_release release;
    ThreadExecutor executor(Threads(threads));
    columns = work(executor);
  }
  if (!columns.ok()) Raise(columns.status());
  return ToDict(*std::move(columns));
}

// QualityVotes(num_items=, …): a table of votes, which the other functions take.
void BindQualityVotes(nanobind::module_& m);

}  // namespace softloss::python
