// The statistics of annotation, in this process.
#pragma once

#include <nanobind/nanobind.h>

#include "client/python/binding/arrays.h"

namespace softloss::python {

// quality_analyze(…) -> {name: NumPy array}: kernels/annotation/analysis_columns.h.
void BindQuality(nb::module_& m);

}  // namespace softloss::python
