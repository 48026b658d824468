// Many people's votes to one answer, in this process.
#pragma once

#include <nanobind/nanobind.h>

#include "client/python/binding/arrays.h"

namespace softloss::python {

// quality_majority, quality_wawa, quality_one_coin, quality_dawid_skene, quality_crowdlab: of a
// QualityVotes (quality_votes.h) -> {name: NumPy array}; quality_dawid_skene_posterior.
void BindQualityAggregation(nb::module_& m);

}  // namespace softloss::python
