#include "client/python/binding/engine.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "client/python/binding/request.h"
#include "client/python/binding/status.h"
#include "client/python/binding/thread_executor.h"
#include "client/python/binding/totals.h"
#include "kernels/backends.h"
#include "kernels/engine.h"

namespace softloss::python {
namespace {

class Engine {
 public:
  Engine(const std::string& backend, int threads)
      : executor_(threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency())) {
    auto made = MakeBackend(backend);
    if (!made.ok()) Raise(made.status(), "backend");
    backend_ = *std::move(made);
    numerics_id_ = backend_->numerics_id();
  }

  Totals Score(const LossSpec& spec, Request& request) {
    Totals totals;
    totals.numerics_id = numerics_id_;
    absl::StatusOr<ItemTotals> scored;
    {
      nb::gil_scoped_release release;
      const auto begin = std::chrono::steady_clock::now();
      scored = ScoreItem(*backend_, executor_, spec, request.item,
                         {.prediction = Bytes(request.prediction).data(),
                          .label = Bytes(request.label).data(),
                          .mask = Bytes(request.mask).data(),
                          .row_weight = Bytes(request.row_weight).data(),
                          .label_ids = Bytes(request.label_ids).data()},
                         {.gradient = MutableBytes(request.gradient).data(),
                          .row_loss = MutableBytes(request.row_loss).data()});
      totals.compute_ns = static_cast<std::uint64_t>(
          std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
    }
    totals.total_ns = totals.compute_ns;
    if (!scored.ok()) Raise(scored.status());
    totals.item = *scored;
    return totals;
  }

  const std::string& numerics_id() const { return numerics_id_; }
  int threads() const { return executor_.concurrency(); }
  std::string backend() const { return std::string(backend_->name()); }

 private:
  std::unique_ptr<Backend> backend_;
  ThreadExecutor executor_;
  std::string numerics_id_;
};

}  // namespace

void BindEngine(nb::module_& m) {
  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const std::string&, int>(), nb::arg("backend"), nb::arg("threads"))
      .def("score", &Engine::Score, nb::arg("spec"), nb::arg("request"))
      .def_prop_ro("numerics_id", &Engine::numerics_id)
      .def_prop_ro("threads", &Engine::threads)
      .def_prop_ro("backend", &Engine::backend);
  m.def("backend_names", [] {
    std::vector<std::string> names;
    for (const std::string_view name : BackendNames()) names.emplace_back(name);
    return names;
  });
}

}  // namespace softloss::python
