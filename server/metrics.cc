#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <cmath>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "server/histogram.h"
#include "server/process_stats.h"

namespace softloss {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::MetricType;
using prometheus::Registry;

struct Rpc {
  const char* type;
  const char* service;
  const char* method;
  bool unary;
};
constexpr std::array<Rpc, kRpcMethods> kRpcs = {{
    {"unary", "softloss.v1.Scorer", "Score", true},
    {"bidi_stream", "softloss.v1.Scorer", "ScoreStream", false},
    {"unary", "softloss.v1.Scorer", "GetCapabilities", true},
    {"unary", "grpc.health.v1.Health", "Check", true},
    {"server_stream", "grpc.health.v1.Health", "Watch", false},
    {"unary", "softloss.v1.AnnotationQuality", "OpenCampaign", true},
    {"unary", "softloss.v1.AnnotationQuality", "ListCampaigns", true},
    {"unary", "softloss.v1.AnnotationQuality", "DeleteCampaign", true},
    {"bidi_stream", "softloss.v1.AnnotationQuality", "Feed", false},
    {"unary", "softloss.v1.AnnotationQuality", "CloseItems", true},
    {"server_stream", "softloss.v1.AnnotationQuality", "Analyze", false},
}};

// As go-grpc-prometheus spells them, so that its dashboards and alerts work.
constexpr std::array<const char*, 17> kGrpcCodes = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

constexpr std::array<const char*, kOutcomes> kOutcomeNames = {"ok",      "invalid",   "shed",
                                                              "expired", "cancelled", "failed"};
constexpr std::array<const char*, kInvalidReasons> kInvalidNames = {"framing", "spec", "shape",
                                                                    "contents", "unimplemented"};
constexpr std::array<const char*, kShedReasons> kShedNames = {"bytes", "quota", "queue", "draining",
                                                              "backend"};
constexpr std::array<const char*, kBackendErrorKinds> kErrorNames = {"oom", "sticky", "other"};

constexpr std::array<const char*, kVoteOutcomes> kVoteNames = {"accepted", "duplicate",
                                                               "superseded", "refused"};

constexpr std::array<const char*, kMemoryRefusals> kMemoryNames = {"limit", "invalid"};

struct Stage {
  const char* name;
  std::uint64_t TaskTimes::*time;
};
constexpr std::array<Stage, 6> kStages = {{{"decode", &TaskTimes::decode_ns},
                                           {"queue", &TaskTimes::queue_ns},
                                           {"h2d", &TaskTimes::host_to_device_ns},
                                           {"compute", &TaskTimes::compute_ns},
                                           {"d2h", &TaskTimes::device_to_host_ns},
                                           {"encode", &TaskTimes::encode_ns}}};

// Adding a negative or non-finite number would break a counter's promise.
void Add(Counter& counter, std::int64_t n) {
  if (n > 0) counter.Increment(static_cast<double>(n));
}

MetricFamily OneValue(std::string name, std::string help, MetricType type, double value) {
  ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return {std::move(name), std::move(help), type, {std::move(metric)}};
}

// Histograms of one name, told apart by at most one label, or by an RPC's three.
class HistogramFamily {
 public:
  HistogramFamily(std::string name, std::string help, std::vector<double> bounds, Counter& dropped)
      : name_(std::move(name)),
        help_(std::move(help)),
        bounds_(std::move(bounds)),
        dropped_(dropped) {}

  std::size_t Add(const Labels& labels) {
    series_.emplace_back(labels, bounds_);
    return series_.size() - 1;
  }

  // The one way into a histogram.
  void Observe(std::size_t series, double value) {
    if (!series_[series].histogram.Observe(value)) dropped_.Increment();
  }

  MetricFamily Collect() const {
    MetricFamily family{name_, help_, MetricType::Histogram, {}};
    for (const Series& series : series_) {
      ClientMetric metric;
      for (const auto& [name, value] : series.labels) metric.label.push_back({name, value});
      std::uint64_t count = 0;
      for (std::size_t i = 0; i <= bounds_.size(); ++i) {
        count += series.histogram.count(i);
        metric.histogram.bucket.push_back(
            {count, i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity()});
      }
      metric.histogram.sample_count = count;
      metric.histogram.sample_sum = series.histogram.sum();
      family.metric.push_back(std::move(metric));
    }
    return family;
  }

 private:
  struct Series {
    Series(Labels l, const std::vector<double>& bounds) : labels(std::move(l)), histogram(bounds) {}
    Labels labels;
    Histogram histogram;
  };

  const std::string name_;
  const std::string help_;
  const std::vector<double> bounds_;
  Counter& dropped_;
  std::deque<Series> series_;  // histograms do not move
};

template <std::size_t N>
std::array<Counter*, N> AddEach(prometheus::Family<Counter>& family, const char* label,
                                const std::array<const char*, N>& values) {
  std::array<Counter*, N> counters;
  for (std::size_t i = 0; i < N; ++i) counters[i] = &family.Add({{label, values[i]}});
  return counters;
}

}  // namespace

struct Metrics::Impl {
  struct RpcSeries {
    Counter* started;
    std::array<Counter*, kGrpcCodes.size()> handled;
    Counter* received;
    Counter* sent;
    std::optional<std::size_t> seconds;
  };
  struct LossSeries {
    std::array<Counter*, kOutcomes> items;
    Counter* rows;
    Counter* unnormalized;
    Counter* out_of_range;
    std::size_t latency, loss, gradient_norm;
  };
  struct GaugeSource {
    std::string name, help;
    std::function<std::vector<GaugeSample>()> read;
  };

  explicit Impl(const BuildInfo& info);

  prometheus::Family<Counter>& Counters(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry);
  }
  Gauge& OneGauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  HistogramFamily& Histograms(const char* name, const char* help, std::vector<double> bounds) {
    return histograms.emplace_back(name, help, std::move(bounds), dropped.Add({{"metric", name}}));
  }
  LossSeries* Find(Loss loss) {
    return by_loss[static_cast<std::size_t>(loss)] ? &*by_loss[static_cast<std::size_t>(loss)]
                                                   : nullptr;
  }

  Registry registry;
  prometheus::Family<Counter>& dropped =
      Counters("softloss_metrics_dropped_total",
               "Values that were not finite and were kept out of a metric.");
  std::deque<HistogramFamily> histograms;

  HistogramFamily& rpc_seconds =
      Histograms("grpc_server_handling_seconds", "Time from a unary call's start to its end.",
                 Buckets125(1e-4, 10));
  HistogramFamily& item_latency =
      Histograms("softloss_item_latency_seconds", "Time from an item's arrival to its last reply.",
                 Buckets125(1e-4, 10));
  HistogramFamily& stage_seconds =
      Histograms("softloss_stage_duration_seconds",
                 "Time of an item's chunks in each stage, summed.", Buckets125(1e-6, 10));
  HistogramFamily& batch_items =
      Histograms("softloss_batch_items", "Chunks in a device batch.", Buckets125(1, 10'000));
  HistogramFamily& batch_bytes = Histograms(
      "softloss_batch_bytes", "Bytes of a device batch, request and reply.", Buckets125(1e3, 1e9));
  HistogramFamily& loss_nats =
      Histograms("softloss_loss_nats", "Mean loss of an item: its sum over its denominator.",
                 Buckets125(1e-4, 50));
  HistogramFamily& gradient_norm = Histograms(
      "softloss_gradient_l2_norm",
      "L2 norm of an item's gradient, scale included; not of zero ones.", Buckets125(1e-6, 1e4));

  std::array<RpcSeries, kRpcMethods> rpc;
  std::array<std::optional<LossSeries>, 256> by_loss;
  std::array<std::size_t, kStages.size()> stage;
  std::array<Counter*, kInvalidReasons> invalid;
  std::array<Counter*, kShedReasons> shed;
  std::array<Counter*, kBackendErrorKinds> backend_errors;
  std::array<Counter*, kVoteOutcomes> votes;
  std::array<Counter*, kMemoryRefusals> memory_refused;
  std::array<Counter*, kCloseReasons> batches_closed;
  std::size_t batch_items_series, batch_bytes_series;
  Counter* nonfinite_predictions;
  Counter* nonfinite_labels;
  Counter* nonfinite_losses;
  Counter& received_bytes =
      Counters("softloss_received_bytes_total", "Bytes of request messages.").Add({});
  Counter& sent_bytes = Counters("softloss_sent_bytes_total", "Bytes of reply messages.").Add({});
  Counter& memory_items =
      Counters("softloss_shared_memory_items_total", "Items scored where they lay.").Add({});
  Counter& memory_item_bytes = Counters("softloss_shared_memory_item_bytes_total",
                                        "Bytes of tensors that were in shared memory.")
                                   .Add({});
  Gauge& inflight = OneGauge("softloss_inflight_items", "Items begun and not yet answered.");
  Gauge& streams = OneGauge("softloss_streams_active", "Open ScoreStream calls.");
  Gauge& ready = OneGauge("softloss_ready", "1 while the server takes work.");

  mutable std::mutex mutex;
  std::vector<GaugeSource> sources;  // guarded by mutex
};

Metrics::Impl::Impl(const BuildInfo& info) {
  auto& started = Counters("grpc_server_started_total", "Calls started.");
  auto& handled = Counters("grpc_server_handled_total", "Calls ended, by status.");
  auto& received = Counters("grpc_server_msg_received_total", "Messages received.");
  auto& sent = Counters("grpc_server_msg_sent_total", "Messages sent.");
  for (int i = 0; i < kRpcMethods; ++i) {
    const Labels labels = {{"grpc_type", kRpcs[i].type},
                           {"grpc_service", kRpcs[i].service},
                           {"grpc_method", kRpcs[i].method}};
    rpc[i].started = &started.Add(labels);
    rpc[i].received = &received.Add(labels);
    rpc[i].sent = &sent.Add(labels);
    for (std::size_t code = 0; code < kGrpcCodes.size(); ++code) {
      Labels with_code = labels;
      with_code["grpc_code"] = kGrpcCodes[code];
      rpc[i].handled[code] = &handled.Add(with_code);
    }
    if (kRpcs[i].unary) rpc[i].seconds = rpc_seconds.Add(labels);
  }

  auto& items = Counters("softloss_items_total", "Items ended, by outcome.");
  auto& rows = Counters("softloss_rows_total", "Rows of items that were scored.");
  auto& unnormalized =
      Counters("softloss_unnormalized_labels_total", "Label rows that do not sum to 1.");
  auto& out_of_range =
      Counters("softloss_out_of_range_labels_total", "Label values outside [0, 1].");
  for (Loss loss : AllLosses()) {
    const std::string name(Name(loss));
    LossSeries& series = by_loss[static_cast<std::size_t>(loss)].emplace();
    for (int i = 0; i < kOutcomes; ++i) {
      series.items[i] = &items.Add({{"loss", name}, {"outcome", kOutcomeNames[i]}});
    }
    series.rows = &rows.Add({{"loss", name}});
    series.unnormalized = &unnormalized.Add({{"loss", name}});
    series.out_of_range = &out_of_range.Add({{"loss", name}});
    series.latency = item_latency.Add({{"loss", name}});
    series.loss = loss_nats.Add({{"loss", name}});
    series.gradient_norm = gradient_norm.Add({{"loss", name}});
  }
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    stage[i] = stage_seconds.Add({{"stage", kStages[i].name}});
  }
  auto& nonfinite = Counters("softloss_nonfinite_values_total",
                             "NaN or infinite values in the tensors of scored items.");
  nonfinite_predictions = &nonfinite.Add({{"tensor", "prediction"}});
  nonfinite_labels = &nonfinite.Add({{"tensor", "label"}});
  nonfinite_losses = &nonfinite.Add({{"tensor", "loss"}});

  invalid = AddEach(Counters("softloss_invalid_inputs_total", "Inputs refused, by what was wrong."),
                    "reason", kInvalidNames);
  shed = AddEach(Counters("softloss_shed_total", "Items refused for lack of room."), "reason",
                 kShedNames);
  backend_errors =
      AddEach(Counters("softloss_backend_errors_total", "Failures of the backend, by kind."),
              "kind", kErrorNames);
  votes = AddEach(Counters("softloss_quality_votes_total", "Votes fed to campaigns, by outcome."),
                  "outcome", kVoteNames);
  memory_refused = AddEach(
      Counters("softloss_shared_memory_refused_total", "Sessions and regions refused, by why."),
      "reason", kMemoryNames);
  std::array<const char*, kCloseReasons> reasons;
  for (int i = 0; i < kCloseReasons; ++i) reasons[i] = Name(static_cast<CloseReason>(i)).data();
  batches_closed =
      AddEach(Counters("softloss_batches_closed_total", "Device batches, by why closed."), "reason",
              reasons);
  batch_items_series = batch_items.Add({{"backend", info.backend}});
  batch_bytes_series = batch_bytes.Add({{"backend", info.backend}});
  BuildGauge()
      .Name("softloss_build_info")
      .Help("Always 1; what this server is.")
      .Register(registry)
      .Add(
          {{"version", info.version}, {"backend", info.backend}, {"numerics_id", info.numerics_id}})
      .Set(1);
}

Metrics::Metrics(const BuildInfo& info) : impl_(std::make_unique<Impl>(info)) {}
Metrics::~Metrics() = default;

void Metrics::RpcStarted(RpcMethod method) {
  impl_->rpc[static_cast<int>(method)].started->Increment();
}

void Metrics::RpcHandled(RpcMethod method, int grpc_code, std::optional<double> seconds) {
  const Impl::RpcSeries& rpc = impl_->rpc[static_cast<int>(method)];
  constexpr int kUnknown = 2;
  const bool known = grpc_code >= 0 && grpc_code < static_cast<int>(kGrpcCodes.size());
  rpc.handled[known ? grpc_code : kUnknown]->Increment();
  if (seconds && rpc.seconds) impl_->rpc_seconds.Observe(*rpc.seconds, *seconds);
}

void Metrics::MessageReceived(RpcMethod method) {
  impl_->rpc[static_cast<int>(method)].received->Increment();
}

void Metrics::MessageSent(RpcMethod method) {
  impl_->rpc[static_cast<int>(method)].sent->Increment();
}

void Metrics::ItemStarted() { impl_->inflight.Increment(); }

void Metrics::ItemFinished(const ItemObservation& item) {
  impl_->inflight.Decrement();
  Impl::LossSeries* series = impl_->Find(item.loss);
  if (series == nullptr) return;
  series->items[static_cast<int>(item.outcome)]->Increment();
  impl_->item_latency.Observe(series->latency, item.latency_s);
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    const std::uint64_t ns = item.times.*kStages[i].time;
    if (ns > 0) impl_->stage_seconds.Observe(impl_->stage[i], static_cast<double>(ns) * 1e-9);
  }
  if (!item.totals) return;
  Add(*series->rows, item.rows);
  const ItemTotals& totals = *item.totals;
  const Tally& tally = totals.tally;
  if (!totals.empty) impl_->loss_nats.Observe(series->loss, totals.loss_sum / totals.denominator);
  if (totals.gradient_l2_norm != 0) {
    impl_->gradient_norm.Observe(series->gradient_norm, totals.gradient_l2_norm);
  }
  Add(*impl_->nonfinite_predictions, tally.nonfinite_predictions);
  Add(*impl_->nonfinite_labels, tally.nonfinite_labels);
  Add(*impl_->nonfinite_losses, tally.nonfinite_losses);
  Add(*series->unnormalized, tally.unnormalized_labels);
  Add(*series->out_of_range, tally.out_of_range_labels);
}

void Metrics::InvalidInput(InvalidReason reason) {
  impl_->invalid[static_cast<int>(reason)]->Increment();
}

void Metrics::Shed(ShedReason reason) { impl_->shed[static_cast<int>(reason)]->Increment(); }
void Metrics::ReceivedBytes(std::int64_t bytes) { Add(impl_->received_bytes, bytes); }
void Metrics::SentBytes(std::int64_t bytes) { Add(impl_->sent_bytes, bytes); }
void Metrics::StreamOpened() { impl_->streams.Increment(); }
void Metrics::StreamClosed() { impl_->streams.Decrement(); }

void Metrics::BatchClosed(CloseReason reason, std::int64_t items, std::int64_t bytes) {
  impl_->batches_closed[static_cast<int>(reason)]->Increment();
  impl_->batch_items.Observe(impl_->batch_items_series, static_cast<double>(items));
  impl_->batch_bytes.Observe(impl_->batch_bytes_series, static_cast<double>(bytes));
}

void Metrics::BackendError(BackendErrorKind kind) {
  impl_->backend_errors[static_cast<int>(kind)]->Increment();
}

void Metrics::MemoryRefused(MemoryRefusal reason) {
  impl_->memory_refused[static_cast<int>(reason)]->Increment();
}

void Metrics::SharedMemoryItem(std::int64_t bytes) {
  impl_->memory_items.Increment();
  Add(impl_->memory_item_bytes, bytes);
}

void Metrics::QualityVotes(VoteOutcome outcome, std::int64_t votes) {
  Add(*impl_->votes[static_cast<int>(outcome)], votes);
}

void Metrics::SetReady(bool ready) { impl_->ready.Set(ready ? 1 : 0); }

void Metrics::AddGaugeSource(std::string_view name, std::string_view help,
                             std::function<double()> source) {
  AddGaugeSource(name, help, [source = std::move(source)] {
    return std::vector<GaugeSample>{{{}, source()}};
  });
}

void Metrics::AddGaugeSource(std::string_view name, std::string_view help,
                             std::function<std::vector<GaugeSample>()> source) {
  impl_->dropped.Add({{"metric", std::string(name)}});
  std::lock_guard lock(impl_->mutex);
  impl_->sources.push_back({std::string(name), std::string(help), std::move(source)});
}

void Metrics::ClearGaugeSources() {
  std::lock_guard lock(impl_->mutex);
  impl_->sources.clear();
}

std::string Metrics::Serialize() const {
  std::vector<MetricFamily> families;
  {
    std::lock_guard lock(impl_->mutex);
    for (const Impl::GaugeSource& source : impl_->sources) {
      MetricFamily family{source.name, source.help, MetricType::Gauge, {}};
      for (const GaugeSample& sample : source.read()) {
        if (!std::isfinite(sample.value)) {
          impl_->dropped.Add({{"metric", source.name}}).Increment();
          continue;
        }
        ClientMetric metric;
        for (const auto& [label, value] : sample.labels) metric.label.push_back({label, value});
        metric.gauge.value = sample.value;
        family.metric.push_back(std::move(metric));
      }
      if (!family.metric.empty()) families.push_back(std::move(family));
    }
  }
  for (MetricFamily& family : impl_->registry.Collect()) families.push_back(std::move(family));
  for (const HistogramFamily& family : impl_->histograms) families.push_back(family.Collect());
  const ProcessStats stats = ReadProcessStats();
  families.push_back(OneValue("process_cpu_seconds_total", "CPU time used, user and system.",
                              MetricType::Counter, stats.cpu_seconds));
  families.push_back(OneValue("process_resident_memory_bytes", "Memory in use.", MetricType::Gauge,
                              stats.resident_bytes));
  families.push_back(
      OneValue("process_open_fds", "Open file descriptors.", MetricType::Gauge, stats.open_fds));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace softloss
