// The load generator.
#pragma once

#include <nanobind/nanobind.h>

namespace softloss::python {

// LoadItem(…), a kind of item; run_load(address, items, …) -> a dictionary of what came of it.
void BindLoad(nanobind::module_& m);

}  // namespace softloss::python
