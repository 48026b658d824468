#include "client/python/binding/load.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/load/load_generator.h"
#include "client/python/binding/status.h"
#include "softloss/client.h"

namespace softloss::python {
namespace {

namespace nb = nanobind;
using load::ArrivalKind;
using load::ItemKind;
using load::KindResult;
using load::LatencyHistogram;
using load::LoadOptions;
using load::LoadResult;
using load::PreparedItem;

DType Parsed(const char* field, const std::string& name) {
  const std::optional<DType> dtype = ParseDType(name);
  if (!dtype) Raise(absl::InvalidArgumentError(absl::StrCat(field, ": no such dtype: ", name)));
  return *dtype;
}

ItemKind MakeKind(std::string name, double weight, const LossSpec& spec,
                  std::vector<std::int64_t> shape, std::optional<int> class_axis,
                  const std::string& prediction, const std::string& label, bool class_ids,
                  bool row_sum, const std::optional<std::string>& gradient) {
  ItemKind kind;
  kind.name = std::move(name);
  kind.weight = weight;
  kind.spec = spec;
  kind.item.shape = std::move(shape);
  kind.item.class_axis = class_axis;
  kind.item.prediction = Parsed("prediction", prediction);
  kind.item.label.kind = class_ids ? LabelKind::kClassId : LabelKind::kDense;
  kind.item.label.dtype = Parsed("label", label);
  if (row_sum) kind.item.label.scale = LabelScale::kRowSum;
  if (gradient.has_value()) kind.item.gradient = Parsed("gradient", *gradient);
  return kind;
}

// Milliseconds.
double Ms(std::int64_t ns) { return static_cast<double>(ns) * 1e-6; }

nb::dict ToDict(const LatencyHistogram& histogram) {
  nb::dict out;
  out["count"] = histogram.count();
  out["mean"] = histogram.mean() * 1e-6;
  for (const auto& [name, q] :
       {std::pair{"p50", 0.5}, std::pair{"p90", 0.9}, std::pair{"p95", 0.95},
        std::pair{"p99", 0.99}, std::pair{"p99.9", 0.999}, std::pair{"p99.99", 0.9999}}) {
    out[name] = Ms(histogram.Quantile(q));
  }
  out["max"] = Ms(histogram.max());
  return out;
}

nb::dict ToDict(const KindResult& kind, const PreparedItem& item, const ItemKind& of,
                double seconds) {
  nb::dict out, failed;
  for (const auto& [code, count] : kind.failed) {
    failed[nb::str(absl::StatusCodeToString(code).c_str())] = count;
  }
  const auto rate = static_cast<double>(kind.completed_in_time) / seconds;
  out["name"] = of.name;
  out["sent"] = kind.sent;
  out["succeeded"] = kind.succeeded;
  out["wrong"] = kind.wrong;
  out["failed"] = failed;
  out["items_per_second"] = rate;
  out["request_bytes"] = item.request_bytes();
  out["reply_bytes"] = item.reply_bytes();
  out["request_bytes_per_second"] = rate * static_cast<double>(item.request_bytes());
  out["reply_bytes_per_second"] = rate * static_cast<double>(item.reply_bytes());
  out["latency_ms"] = ToDict(kind.latency);
  return out;
}

nb::dict Run(const std::string& address, const std::vector<ItemKind>& kinds,
             const std::string& arrivals, double rate, int in_flight, int most_in_flight,
             double warmup, double duration, double timeout, std::uint64_t seed, int channels,
             int check_every, bool shared_memory, const nb::object& progress) {
  LoadOptions options;
  if (arrivals == "closed") {
    options.arrivals = ArrivalKind::kClosed;
  } else if (arrivals == "uniform") {
    options.arrivals = ArrivalKind::kUniform;
  } else if (arrivals == "poisson") {
    options.arrivals = ArrivalKind::kPoisson;
  } else {
    Raise(absl::InvalidArgumentError(
        absl::StrCat("arrivals: must be closed, uniform or poisson; was ", arrivals)));
  }
  options.rate = rate;
  options.in_flight = in_flight;
  options.most_in_flight = most_in_flight;
  options.warmup = absl::Seconds(warmup);
  options.duration = absl::Seconds(duration);
  options.timeout = absl::Seconds(timeout);
  options.seed = seed;

  // What Python raises in the callback, a KeyboardInterrupt for one, ends the run and goes on from here.
  nb::object raised;
  const load::Progress tell = [&](double seconds, std::int64_t completed) {
    nb::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (!progress.is_none()) progress(seconds, completed);
      return true;
    } catch (nb::python_error& error) {
      raised = nb::borrow<nb::object>(error.value());
      return false;
    }
  };
  std::vector<std::unique_ptr<PreparedItem>> items;
  absl::StatusOr<LoadResult> result;
  bool shared = false;
  {
    nb::gil_scoped_release release;
    result = [&]() -> absl::StatusOr<LoadResult> {
      std::vector<double> weights;
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        absl::StatusOr<std::unique_ptr<PreparedItem>> item =
            PreparedItem::Create(kinds[k], seed + k);
        if (!item.ok()) return item.status();
        items.push_back(*std::move(item));
        weights.push_back(kinds[k].weight);
      }
      ClientOptions client_options;
      client_options.channels = channels;
      client_options.retry = false;  // a request that failed has failed
      absl::StatusOr<Client> client = Client::Connect(address, client_options);
      if (!client.ok()) return client.status();
      if (shared_memory) {
        for (const auto& item : items) {
          if (auto s = item->Share(*client); !s.ok()) return s;
        }
        shared = true;
      }
      return load::RunLoad(*client, items, weights, options, check_every, tell);
    }();
  }
  if (raised.is_valid()) {
    PyErr_SetObject(raised.type().ptr(), raised.ptr());
    throw nb::python_error();
  }
  if (!result.ok()) Raise(result.status());

  nb::dict out, stages;
  nb::list of_kinds;
  std::int64_t succeeded = 0;
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    of_kinds.append(ToDict(result->kinds[k], *items[k], kinds[k], result->seconds));
    succeeded += result->kinds[k].succeeded;
  }
  const load::StageSums& sums = result->stages;
  for (const auto& [name, sum] :
       {std::pair{"decode", sums.decode}, std::pair{"queue", sums.queue},
        std::pair{"host_to_device", sums.host_to_device}, std::pair{"compute", sums.compute},
        std::pair{"device_to_host", sums.device_to_host}, std::pair{"encode", sums.encode}}) {
    stages[name] = succeeded == 0 ? 0.0 : 1e3 * sum / static_cast<double>(succeeded);
  }
  out["items"] = of_kinds;
  out["server_stages_ms"] = stages;
  out["send_lag_ms"] = ToDict(result->lag);
  out["unsent"] = result->unsent;
  out["seconds"] = result->seconds;
  out["client_cores"] = result->client_cores;
  out["client_threads"] = result->client_threads;
  out["machine_busy"] = result->machine_busy;
  out["numerics_id"] = result->numerics_id;
  out["transport"] = shared ? "shared_memory" : "wire";
  out["first_error"] = result->first_error;
  out["client_limit"] = result->ClientLimit(options);
  return out;
}

}  // namespace

void BindLoad(nb::module_& m) {
  using nb::arg;
  nb::class_<ItemKind>(m, "LoadItem")
      .def(nb::new_(&MakeKind), nb::kw_only(), arg("name"), arg("weight"), arg("spec"),
           arg("shape"), arg("class_axis").none(), arg("prediction"), arg("label"),
           arg("class_ids"), arg("row_sum"), arg("gradient").none());
  m.def("run_load", &Run, arg("address"), arg("items"), nb::kw_only(), arg("arrivals"), arg("rate"),
        arg("in_flight"), arg("most_in_flight"), arg("warmup"), arg("duration"), arg("timeout"),
        arg("seed"), arg("channels"), arg("check_every"), arg("shared_memory"),
        arg("progress").none());
}

}  // namespace softloss::python
