// Vectors and an analysis's columns as NumPy arrays.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "kernels/annotation/analysis_columns.h"

namespace softloss::python {

// An array of that shape, which owns the vector. With the GIL.
template <typename T>
nanobind::object ToArray(std::vector<T> values, const std::vector<std::int64_t>& shape) {
  const std::vector<std::size_t> dims(shape.begin(), shape.end());
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = owned->data();
  nanobind::capsule owner(owned.release(),
                          [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nanobind::cast(
      nanobind::ndarray<nanobind::numpy, T>(data, dims.size(), dims.data(), owner));
}

// {name: float64 or int64 array}, which own their memory. With the GIL.
nanobind::dict ToDict(std::vector<annotation::Column> columns);

}  // namespace softloss::python
