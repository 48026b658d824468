#include "client/python/binding/client.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "absl/time/time.h"
#include "client/python/binding/completer.h"
#include "client/python/binding/request.h"
#include "client/python/binding/status.h"
#include "client/python/binding/totals.h"
#include "softloss/client.h"

namespace softloss::python {
namespace {

using Outcome = absl::StatusOr<ScoreResult>;

absl::Duration Seconds(std::optional<double> seconds) {
  return seconds ? absl::Seconds(*seconds) : absl::InfiniteDuration();
}

std::uint64_t Nanoseconds(absl::Duration d) {
  return static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(d));
}

// What only a server's answer has.
struct ClientTotals : Totals {
  Transport transport;
  std::shared_ptr<Buffer> gradient;  // null unless the client brought the memory
};

using ByteArray = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>;

// A NumPy array over memory that `owner` keeps.
template <typename Owner>
ByteArray ToArray(void* data, std::size_t size, Owner owner) {
  auto kept = std::make_unique<Owner>(std::move(owner));
  nb::capsule keep(kept.get(), [](void* p) noexcept { delete static_cast<Owner*>(p); });
  kept.release();
  return ByteArray(data, {size}, keep);
}

ClientTotals ToTotals(ScoreResult& r) {
  const Conditions& c = r.conditions;
  return {{.item = {.loss = r.loss,
                    .loss_sum = r.loss_sum,
                    .denominator = r.denominator,
                    .gradient_scale = r.gradient_scale,
                    .gradient_l2_norm = r.gradient_l2_norm,
                    .empty = c.empty,
                    .tally = {.valid = r.valid_count,
                              .nonfinite_predictions = c.nonfinite_predictions,
                              .nonfinite_labels = c.nonfinite_labels,
                              .nonfinite_losses = c.nonfinite_losses,
                              .unnormalized_labels = c.unnormalized_labels,
                              .out_of_range_labels = c.out_of_range_labels}},
           .numerics_id = r.numerics_id,
           .decode_ns = Nanoseconds(r.times.decode),
           .queue_ns = Nanoseconds(r.times.queue),
           .host_to_device_ns = Nanoseconds(r.times.host_to_device),
           .compute_ns = Nanoseconds(r.times.compute),
           .device_to_host_ns = Nanoseconds(r.times.device_to_host),
           .encode_ns = Nanoseconds(r.times.encode),
           .total_ns = Nanoseconds(r.times.total),
           .attempts = r.attempts},
          r.transport,
          r.gradient.empty() ? nullptr : std::make_shared<Buffer>(std::move(r.gradient))};
}

[[noreturn]] void RaiseError(const absl::Status& status) {
  const ErrorInfo info = GetErrorInfo(status).value_or(ErrorInfo());
  Raise(status, info.field, info.retryable);
}

ScoreRequest Borrow(const LossSpec& spec, Request& request, std::optional<double> timeout) {
  ScoreRequest borrowed;
  borrowed.spec = spec;
  borrowed.item = request.item;
  borrowed.prediction = Bytes(request.prediction).data();
  borrowed.label = Bytes(request.label).data();
  borrowed.mask = Bytes(request.mask).data();
  borrowed.row_weight = Bytes(request.row_weight).data();
  borrowed.label_ids = Bytes(request.label_ids).data();
  borrowed.gradient = MutableBytes(request.gradient).data();
  borrowed.row_loss = MutableBytes(request.row_loss).data();
  borrowed.timeout = Seconds(timeout);
  return borrowed;
}

// What a blocking call and the client's thread share. The arrays stay alive until the client is done
// with them, even if the caller was interrupted and has gone.
struct Call {
  std::mutex mutex;
  std::condition_variable done;
  std::optional<Outcome> outcome;
  bool abandoned = false;
  nb::object request;  // touched with the GIL only
};

class PyClient {
 public:
  PyClient(const std::string& address, int channels, double connect_timeout, bool retry,
           int max_attempts) {
    ClientOptions options;
    options.channels = channels;
    options.connect_timeout = absl::Seconds(connect_timeout);
    options.retry = retry;
    options.max_attempts = max_attempts;
    absl::StatusOr<Client> client;
    {
      nb::gil_scoped_release release;
      client = Client::Connect(address, std::move(options));
    }
    if (!client.ok()) RaiseError(client.status());
    client_ = std::make_unique<Client>(*std::move(client));
    numerics_id_ = client_->numerics_id();
  }

  ~PyClient() { Close(); }

  // Waits in slices, so that Ctrl-C is heard.
  ClientTotals Score(const LossSpec& spec, nb::object request, std::optional<double> timeout) {
    auto call = std::make_shared<Call>();
    call->request = request;
    ScoreRequest borrowed = Borrow(spec, nb::cast<Request&>(request), timeout);
    const Client client = Get();
    {
      nb::gil_scoped_release release;
      client.Submit(std::move(borrowed), [call](Outcome outcome) {
        std::unique_lock lock(call->mutex);
        call->outcome.emplace(std::move(outcome));
        if (call->abandoned) {
          Completer::Get().Post([call] { call->request.reset(); });
        } else {
          call->done.notify_one();
        }
      });
    }
    while (true) {
      bool finished;
      {
        nb::gil_scoped_release release;
        std::unique_lock lock(call->mutex);
        finished = call->done.wait_for(lock, std::chrono::milliseconds(100),
                                       [&] { return call->outcome.has_value(); });
      }
      if (finished) break;
      if (PyErr_CheckSignals() != 0) {
        {
          std::lock_guard lock(call->mutex);
          call->abandoned = !call->outcome.has_value();
        }
        if (!call->abandoned) call->request.reset();
        throw nb::python_error();
      }
    }
    call->request.reset();
    if (!call->outcome->ok()) RaiseError(call->outcome->status());
    return ToTotals(**call->outcome);
  }

  // done(totals | None, error | None), from the completer's thread.
  void Submit(const LossSpec& spec, nb::object request, std::optional<double> timeout,
              nb::object done) {
    ScoreRequest borrowed = Borrow(spec, nb::cast<Request&>(request), timeout);
    // Held by a plain pointer, so that no thread without the GIL touches a reference count.
    struct Held {
      nb::object request, done;
    };
    auto* const held = new Held{std::move(request), std::move(done)};
    const Client client = Get();
    nb::gil_scoped_release release;
    client.Submit(std::move(borrowed), [held](Outcome outcome) {
      Completer::Get().Post([held, outcome = std::make_shared<Outcome>(std::move(outcome))] {
        const std::unique_ptr<Held> owned(held);
        try {
          if (outcome->ok()) {
            owned->done(ToTotals(**outcome), nb::none());
            return;
          }
          const ErrorInfo info = GetErrorInfo(outcome->status()).value_or(ErrorInfo());
          owned->done(nb::none(), ErrorOf(outcome->status(), info.field, info.retryable));
        } catch (nb::python_error& error) {
          error.discard_as_unraisable("softloss: completing a request");
        }
      });
    });
  }

  // (memory, None), or (memory, why the server refused it).
  nb::tuple Allocate(std::size_t size) {
    const Client client = Get();
    absl::StatusOr<SharedMemory> memory;
    absl::Status status;
    {
      nb::gil_scoped_release release;
      memory = client.Allocate(size);
      if (memory.ok()) status = memory->status();
    }
    if (!memory.ok()) RaiseError(memory.status());
    void* const data = memory->data();
    ByteArray array = ToArray(data, size, *std::move(memory));
    return nb::make_tuple(std::move(array), status.ok() || absl::IsUnimplemented(status)
                                                ? nb::object(nb::none())
                                                : nb::cast(std::string(status.message())));
  }

  bool Allocated(const InputArray& array) {
    return client_ != nullptr && client_->Allocated(array.data(), array.nbytes());
  }

  nb::dict Capabilities() {
    const Client client = Get();
    absl::StatusOr<ServerCapabilities> asked;
    {
      nb::gil_scoped_release release;
      asked = client.Capabilities();
    }
    if (!asked.ok()) RaiseError(asked.status());
    const auto names = [](const auto& values) {
      nb::list out;
      for (const auto value : values) {
        const std::string_view name = Name(value);
        out.append(nb::str(name.data(), name.size()));
      }
      return nb::tuple(out);
    };
    nb::list unimplemented;
    for (const std::string& field : asked->unimplemented_fields) {
      unimplemented.append(nb::str(field.c_str()));
    }
    nb::dict out;
    out["server_version"] = asked->server_version;
    out["backend"] = asked->backend;
    out["numerics_id"] = asked->numerics_id;
    out["losses"] = names(asked->losses);
    out["prediction_dtypes"] = names(asked->prediction_dtypes);
    out["label_dtypes"] = names(asked->label_dtypes);
    out["class_id_dtypes"] = names(asked->class_id_dtypes);
    nb::list tails;
    for (const TailRule tail : asked->tail_rules) tails.append(nb::str(TailName(tail)));
    out["tail_rules"] = nb::tuple(tails);
    out["gradient_dtypes"] = names(asked->gradient_dtypes);
    out["max_message_bytes"] = asked->max_message_bytes;
    out["max_chunk_bytes"] = asked->max_chunk_bytes;
    out["stream_credit_bytes"] = asked->stream_credit_bytes;
    out["stream_credit_items"] = asked->stream_credit_items;
    out["unimplemented_fields"] = nb::tuple(unimplemented);
    out["shared_memory"] = asked->shared_memory;
    return out;
  }

  // Outstanding requests complete with CANCELLED. Again: nothing.
  void Close() {
    std::unique_ptr<Client> client = std::move(client_);
    nb::gil_scoped_release release;
    client.reset();
  }

  const std::string& numerics_id() const { return numerics_id_; }
  bool closed() const { return client_ == nullptr; }

 private:
  Client Get() const {
    if (client_ == nullptr) Raise(absl::FailedPreconditionError("the client is closed"));
    return *client_;
  }

  std::unique_ptr<Client> client_;  // guarded by the GIL
  std::string numerics_id_;
};

}  // namespace

void BindClient(nb::module_& m) {
  nb::class_<ClientTotals, Totals>(m, "ClientTotals")
      .def_prop_ro("transport",
                   [](const ClientTotals& t) {
                     return t.transport == Transport::kSharedMemory ? "shared_memory" : "wire";
                   })
      .def_prop_ro("gradient", [](const ClientTotals& t) -> nb::object {
        if (t.gradient == nullptr) return nb::none();
        return nb::cast(ToArray(t.gradient->data(), t.gradient->size(), t.gradient));
      });
  nb::class_<PyClient>(m, "Client")
      .def(nb::init<const std::string&, int, double, bool, int>(), nb::arg("address"),
           nb::arg("channels"), nb::arg("connect_timeout"), nb::arg("retry"),
           nb::arg("max_attempts"))
      .def("score", &PyClient::Score, nb::arg("spec"), nb::arg("request"),
           nb::arg("timeout").none())
      .def("submit", &PyClient::Submit, nb::arg("spec"), nb::arg("request"),
           nb::arg("timeout").none(), nb::arg("done"))
      .def("allocate", &PyClient::Allocate, nb::arg("size"))
      .def("allocated", &PyClient::Allocated, nb::arg("array").noconvert())
      .def("capabilities", &PyClient::Capabilities)
      .def("close", &PyClient::Close)
      .def_prop_ro("closed", &PyClient::closed)
      .def_prop_ro("numerics_id", &PyClient::numerics_id);
  // Before the interpreter ends, and after the clients were closed.
  m.def("shutdown", [] {
    nb::gil_scoped_release release;
    Completer::Get().Stop();
  });
  m.def("pin_malloc_thresholds", &PinMallocThresholds);
}

}  // namespace softloss::python
