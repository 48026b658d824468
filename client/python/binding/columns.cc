#include "client/python/binding/columns.h"

#include <memory>
#include <utility>
#include <variant>

#include <nanobind/ndarray.h>

namespace softloss::python {
namespace {

namespace nb = nanobind;

template <typename T>
nb::object ToArray(std::vector<T> values, const std::vector<std::int64_t>& shape) {
  const std::vector<std::size_t> dims(shape.begin(), shape.end());
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = owned->data();
  nb::capsule owner(owned.release(),
                    [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(data, dims.size(), dims.data(), owner));
}

}  // namespace

nb::dict ToDict(std::vector<annotation::Column> columns) {
  nb::dict out;
  for (annotation::Column& column : columns) {
    const nb::str name(column.name.c_str());
    out[name] = std::visit([&](auto&& values) { return ToArray(std::move(values), column.shape); },
                           std::move(column.values));
  }
  return out;
}

}  // namespace softloss::python
