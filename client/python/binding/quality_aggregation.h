// Many people's votes to one answer, and pixels, in this process.
#pragma once

#include <nanobind/nanobind.h>

#include "client/python/binding/arrays.h"

namespace softloss::python {

// quality_dawid_skene(…), quality_crowdlab(…), quality_segmentation_em(…), quality_pixel_alpha(…),
// quality_segmentation_issues(…) -> {name: NumPy array}.
void BindQualityAggregation(nb::module_& m);

}  // namespace softloss::python
