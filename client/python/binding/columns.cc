#include "client/python/binding/columns.h"

#include <variant>

namespace softloss::python {

namespace nb = nanobind;

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
