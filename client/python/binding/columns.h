// An analysis's columns as NumPy arrays.
#pragma once

#include <vector>

#include <nanobind/nanobind.h>

#include "kernels/annotation/analysis_columns.h"

namespace softloss::python {

// {name: float64 or int64 array}, which own their memory. With the GIL.
nanobind::dict ToDict(std::vector<annotation::Column> columns);

}  // namespace softloss::python
