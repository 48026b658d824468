// From absl::Status to the package's exceptions.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "absl/status/status.h"

namespace softloss::python {

// The exception that fits the status (softloss._errors.from_status), with `field` and `retryable` on
// it. `field` may be empty: the message's "field: …" prefix then names it. Needs the GIL.
nanobind::object ErrorOf(const absl::Status& status, std::string field, bool retryable);

// Raises it.
[[noreturn]] void Raise(const absl::Status& status, std::string field = {}, bool retryable = false);

// "label.dtype" of "label.dtype: class ids must be …"; empty if the message has no such prefix.
std::string FieldOf(const std::string& message);

}  // namespace softloss::python
