// Campaigns on a server.
#pragma once

#include <nanobind/nanobind.h>

namespace softloss::python {

void BindQualityClient(nanobind::module_& m);

}  // namespace softloss::python
