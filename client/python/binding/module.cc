// softloss._softloss: the private half of the package. src/softloss/ is its only caller.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "client/python/binding/arrays.h"
#include "client/python/binding/client.h"
#include "client/python/binding/engine.h"
#include "client/python/binding/load.h"
#include "client/python/binding/quality.h"
#include "client/python/binding/quality_aggregation.h"
#include "client/python/binding/quality_client.h"
#include "client/python/binding/quality_masks.h"
#include "client/python/binding/quality_state.h"
#include "client/python/binding/quality_votes.h"
#include "client/python/binding/request.h"
#include "client/python/binding/totals.h"

namespace softloss::python {
namespace {

void BindTotals(nb::module_& m) {
  nb::class_<Totals>(m, "Totals")
      .def_prop_ro("loss", [](const Totals& t) { return t.item.loss; })
      .def_prop_ro("loss_sum", [](const Totals& t) { return t.item.loss_sum; })
      .def_prop_ro("denominator", [](const Totals& t) { return t.item.denominator; })
      .def_prop_ro("gradient_scale", [](const Totals& t) { return t.item.gradient_scale; })
      .def_prop_ro("gradient_l2_norm", [](const Totals& t) { return t.item.gradient_l2_norm; })
      .def_prop_ro("valid_count", [](const Totals& t) { return t.item.tally.valid; })
      // In the order of softloss.Conditions.
      .def_prop_ro("conditions",
                   [](const Totals& t) {
                     const Tally& n = t.item.tally;
                     return nb::make_tuple(n.nonfinite_predictions, n.nonfinite_labels,
                                           n.nonfinite_losses, n.unnormalized_labels,
                                           n.out_of_range_labels, t.item.empty);
                   })
      // In the order of softloss.Timings, in nanoseconds.
      .def_prop_ro("times_ns",
                   [](const Totals& t) {
                     return nb::make_tuple(t.decode_ns, t.queue_ns, t.host_to_device_ns,
                                           t.compute_ns, t.device_to_host_ns, t.encode_ns,
                                           t.total_ns);
                   })
      .def_ro("attempts", &Totals::attempts)
      .def_ro("numerics_id", &Totals::numerics_id);
}

}  // namespace

NB_MODULE(_softloss, m) {
  nb::set_leak_warnings(false);  // callers may well hold results until the interpreter ends
  m.attr("__version__") = SOFTLOSS_VERSION;
  BindArrays(m);
  BindRequest(m);
  BindTotals(m);
  BindEngine(m);
  BindClient(m);
  BindLoad(m);
  BindQuality(m);
  BindQualityVotes(m);
  BindQualityAggregation(m);
  BindQualityMasks(m);
  BindQualityClient(m);
  BindQualityState(m);
}

}  // namespace softloss::python
