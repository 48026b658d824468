// Scoring by a server.
#pragma once

#include <nanobind/nanobind.h>

namespace softloss::python {

void BindClient(nanobind::module_& m);

}  // namespace softloss::python
