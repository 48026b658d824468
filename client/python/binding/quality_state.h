// Summaries of shards of votes, and their merging.
#pragma once

#include "client/python/binding/arrays.h"

namespace softloss::python {

// quality_summarize(…) -> state bytes, quality_merge([bytes]) -> bytes,
// quality_read_summary(bytes, …) -> a dictionary of names, counts and columns.
void BindQualityState(nb::module_& m);

}  // namespace softloss::python
