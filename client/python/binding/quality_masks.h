// Masks of readers and of models, in this process.
#pragma once

#include <nanobind/nanobind.h>

#include "client/python/binding/arrays.h"

namespace softloss::python {

// quality_compare_masks, quality_mask_consensus, quality_disagreement_map, quality_mask_issues,
// quality_pixel_alpha, quality_segmentation_em, quality_segmentation_issues.
void BindQualityMasks(nb::module_& m);

}  // namespace softloss::python
