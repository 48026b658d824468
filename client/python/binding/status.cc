#include "client/python/binding/status.h"

#include <algorithm>
#include <string>
#include <utility>

namespace softloss::python {

namespace nb = nanobind;

std::string FieldOf(const std::string& message) {
  const std::size_t colon = message.find(':');
  if (colon == std::string::npos) return {};
  const bool is_field = std::all_of(message.begin(), message.begin() + colon, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '[' ||
           c == ']';
  });
  return is_field ? message.substr(0, colon) : std::string();
}

nb::object ErrorOf(const absl::Status& status, std::string field, bool retryable) {
  const std::string code = absl::StatusCodeToString(status.code());
  const std::string message(status.message());
  if (field.empty()) field = FieldOf(message);
  return nb::module_::import_("softloss._errors")
      .attr("from_status")(code.c_str(), message.c_str(), field.c_str(), retryable);
}

void Raise(const absl::Status& status, std::string field, bool retryable) {
  const nb::object error = ErrorOf(status, std::move(field), retryable);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw nb::python_error();
}

}  // namespace softloss::python
