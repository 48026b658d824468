// Scoring in this process.
#pragma once

#include <nanobind/nanobind.h>

namespace softloss::python {

void BindEngine(nanobind::module_& m);

}  // namespace softloss::python
