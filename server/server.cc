#include "server/server.h"

#include <atomic>
#include <thread>
#include <utility>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/backends.h"
#include "server/batcher.h"
#include "server/byte_budget.h"
#include "server/credentials.h"
#include "server/dispatcher.h"
#include "server/health.h"
#include "server/io_thread.h"
#include "server/lanes.h"
#include "server/listen_address.h"
#include "server/log.h"
#include "server/memory_socket.h"
#include "server/metrics.h"
#include "server/metrics_http.h"
#include "server/quality_calls.h"
#include "server/quality_service.h"
#include "server/slab_pool.h"
#include "server/worker_pool.h"

#ifndef SOFTLOSS_VERSION
#error "the build states the version"
#endif

namespace softloss {
namespace {

// They wait for the disk, and analyse together.
constexpr int kQualityWorkers = 2;

// What gRPC may hold of what it receives, in budgets: messages that are not charged yet, and those that
// are.
constexpr std::int64_t kReceiveQuotaBudgets = 4;

// How long calls that were cancelled may take to end.
constexpr auto kCancelGrace = std::chrono::seconds(5);

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> ChooseBackends(const std::string& name) {
  if (name != "auto") return MakeBackends(name);
  for (std::string_view candidate : BackendNames()) {
    if (candidate != "cuda") continue;
    absl::StatusOr<std::vector<std::unique_ptr<Backend>>> devices = MakeBackends(candidate);
    if (devices.ok()) {
      Log(LogLevel::kInfo,
          absl::StrCat("backend cuda: --backend=auto, and devices are there: ", devices->size()));
      return devices;
    }
    Log(LogLevel::kInfo,
        absl::StrCat("backend cpu: --backend=auto, and cuda says: ", devices.status().message()));
    return MakeBackends("cpu");
  }
  Log(LogLevel::kInfo, "backend cpu: --backend=auto, and this build has no cuda");
  return MakeBackends("cpu");
}

// "127.0.0.1:0" as it was bound.
absl::StatusOr<std::string> BoundAddress(const std::string& asked, int port) {
  absl::StatusOr<ListenAddress> parsed = ParseListenAddress(asked);
  if (!parsed.ok()) return parsed.status();
  if (parsed->kind != ListenAddress::Kind::kTcp) return asked;
  const bool v6 = absl::StrContains(parsed->host, ':');
  return absl::StrCat(v6 ? "[" : "", parsed->host, v6 ? "]" : "", ":", port);
}

}  // namespace

// In the order of construction; what is below uses what is above.
struct Server::Impl {
  ServerOptions options;
  RealClock clock;
  std::vector<std::unique_ptr<Backend>> backends;  // one for each device; one for the CPU
  Backend* backend = nullptr;                      // the first
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<ByteBudget> budget;
  std::unique_ptr<SlabPool> slabs;
  std::unique_ptr<WorkerPool> workers;
  Lanes lanes;  // of devices
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<WorkerPool> quality_workers;
  std::unique_ptr<QualityService> quality;  // null without --quality_dir
  std::unique_ptr<MetricsHttp> http;
  std::unique_ptr<RegionTable> regions;         // null with --shared_memory_socket=off
  std::unique_ptr<MemorySocket> memory_socket;  // likewise

  ServingContext context;
  HealthState health;
  std::atomic<bool> draining{false};
  CallRegistry calls;
  ScorerService scorer;
  QualityGrpcService quality_service;
  TimePoint next_alerts;
  HealthService health_service;
  std::unique_ptr<grpc::Server> grpc;
  std::vector<std::unique_ptr<IoThread>> io;
  std::vector<std::string> addresses;
  bool shut_down = false;

  absl::Status StartScoring();
  absl::Status StartQuality();
  absl::Status StartMemory();
  absl::Status StartMetrics();
  absl::Status StartServing();
  bool CanScore() const { return lanes.empty() || lanes.healthy() > 0; }
  absl::Status Ready() const;
  bool Shutdown(Duration patience);
};

absl::Status Server::Impl::StartScoring() {
  absl::StatusOr<std::vector<std::unique_ptr<Backend>>> chosen = ChooseBackends(options.backend);
  if (!chosen.ok()) {
    return absl::Status(chosen.status().code(),
                        absl::StrCat("--backend: ", chosen.status().message()));
  }
  backends = *std::move(chosen);
  backend = backends[0].get();
  metrics = std::make_unique<Metrics>(Metrics::BuildInfo{
      .version = SOFTLOSS_VERSION,
      .backend = std::string(backend->name()),
      .numerics_id = backend->numerics_id(),
  });
  budget = std::make_unique<ByteBudget>(ByteBudget::Options{
      .global_bytes = options.global_budget_bytes, .tenant_bytes = options.tenant_budget_bytes});
  SlabPool::Options slab_options;
  slab_options.max_cached_bytes = options.slab_cache_bytes;
  slabs = std::make_unique<SlabPool>(std::move(slab_options));
  workers = std::make_unique<WorkerPool>(static_cast<int>(options.cpu_threads));
  if (backend->batched()) {
    Batcher::Options lane_options;
    lane_options.queue.max_batch_bytes = options.batch_max_bytes;
    lane_options.queue.max_age = std::chrono::microseconds(options.batch_max_age_us);
    lane_options.queue.deadline_margin =
        std::chrono::microseconds(options.batch_deadline_margin_us);
    lane_options.queue.max_queue_bytes = options.batch_queue_bytes;
    Batcher::Observer observer;
    observer.batch_closed = [m = metrics.get()](CloseReason reason, std::int64_t items,
                                                std::int64_t bytes) {
      m->BatchClosed(reason, items, bytes);
    };
    observer.backend_failed = [m = metrics.get()](const absl::Status& status) {
      m->BackendError(absl::IsResourceExhausted(status) ? BackendErrorKind::kOutOfMemory
                                                        : BackendErrorKind::kSticky);
      Log(LogLevel::kError, absl::StrCat("backend failed: ", status.ToString()));
    };
    for (const std::unique_ptr<Backend>& device : backends) {
      lanes.Add(std::make_unique<Batcher>(lane_options, device.get(), workers.get(), &clock,
                                          RealWait, observer));
    }
  }
  dispatcher = std::make_unique<Dispatcher>(
      backend, workers.get(), lanes.empty() ? nullptr : &lanes, &clock, options.spill_bytes);
  context.backend = backend;
  context.budget = budget.get();
  context.slabs = slabs.get();
  context.metrics = metrics.get();
  context.clock = &clock;
  context.version = SOFTLOSS_VERSION;
  context.max_message_bytes = options.max_message_bytes;
  context.max_chunk_bytes = options.max_chunk_bytes;
  context.stream_credit_bytes = options.stream_credit_bytes;
  context.stream_credit_items = options.stream_credit_items;
  context.item_stall_timeout = std::chrono::seconds(options.item_stall_timeout_s);
  return absl::OkStatus();
}

absl::Status Server::Impl::StartQuality() {
  if (options.quality_dir.empty()) return absl::OkStatus();
  quality_workers = std::make_unique<WorkerPool>(kQualityWorkers);
  absl::StatusOr<std::unique_ptr<QualityService>> created = QualityService::Create(
      {.folder = options.quality_dir,
       .memory_bytes = options.quality_memory_bytes,
       .max_campaigns = options.quality_max_campaigns},
      quality_workers.get(),
      [] {
        return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
            .count();
      },
      metrics.get());
  if (!created.ok()) {
    return absl::Status(created.status().code(),
                        absl::StrCat("--quality_dir: ", created.status().message()));
  }
  quality = *std::move(created);
  metrics->AddGaugeSource("softloss_quality_items", "Items of campaigns.",
                          [this] { return quality->ItemSamples(); });
  metrics->AddGaugeSource("softloss_quality_alerts",
                          "Annotators that a campaign's last analysis found to look at.",
                          [this] { return quality->AlertSamples(); });
  return absl::OkStatus();
}

absl::Status Server::Impl::StartMemory() {
  if (options.shared_memory_socket == "off") return absl::OkStatus();
  RegionLimits limits;
  limits.session_regions = options.shared_memory_session_regions;
  limits.session_bytes = options.shared_memory_session_bytes;
  limits.tenant_regions = options.shared_memory_tenant_regions;
  limits.tenant_bytes = options.shared_memory_tenant_bytes;
  regions = std::make_unique<RegionTable>(limits);
  absl::StatusOr<std::unique_ptr<MemorySocket>> listening =
      MemorySocket::Listen(options.shared_memory_socket, regions.get(), metrics.get());
  if (!listening.ok()) {
    return absl::Status(
        listening.status().code(),
        absl::StrCat("--shared_memory_socket: cannot listen on ", options.shared_memory_socket,
                     ": ", listening.status().message()));
  }
  memory_socket = *std::move(listening);
  context.regions = regions.get();
  context.shared_memory_socket = options.shared_memory_socket;
  Log(LogLevel::kInfo, absl::StrCat("shares memory at ", options.shared_memory_socket));
  metrics->AddGaugeSource("softloss_shared_memory_sessions", "Clients connected to share memory.",
                          [this] { return static_cast<double>(regions->sessions()); });
  metrics->AddGaugeSource("softloss_shared_memory_regions", "Regions of shared memory mapped.",
                          [this] { return static_cast<double>(regions->regions()); });
  metrics->AddGaugeSource("softloss_shared_memory_bytes", "Bytes of shared memory mapped.",
                          [this] { return static_cast<double>(regions->bytes()); });
  return absl::OkStatus();
}

absl::Status Server::Impl::StartMetrics() {
  metrics->AddGaugeSource("softloss_budget_used_bytes", "Bytes of messages and replies in memory.",
                          [this] { return static_cast<double>(budget->used()); });
  metrics->AddGaugeSource("softloss_budget_limit_bytes", "--global_budget_bytes.",
                          [this] { return static_cast<double>(budget->limit()); });
  metrics->AddGaugeSource("softloss_slab_cached_bytes", "Reply memory kept for reuse.",
                          [this] { return static_cast<double>(slabs->stats().cached_bytes); });
  metrics->AddGaugeSource("softloss_slab_in_use_bytes", "Reply memory in use.",
                          [this] { return static_cast<double>(slabs->stats().in_use_bytes); });
  metrics->AddGaugeSource("softloss_queue_items", "Chunks that wait for a thread or the device.",
                          [this] { return static_cast<double>(dispatcher->queued_items()); });
  metrics->AddGaugeSource("softloss_queue_bytes", "Their bytes, without those in shared memory.",
                          [this] { return static_cast<double>(dispatcher->queued_bytes()); });
  metrics->AddGaugeSource("softloss_queue_limit_bytes", "--batch_queue_bytes, of all devices.",
                          [this] { return static_cast<double>(lanes.max_queued_bytes()); });
  metrics->AddGaugeSource(
      "softloss_queue_oldest_age_seconds", "How long the oldest chunk has waited.",
      [this] { return std::chrono::duration<double>(dispatcher->oldest_age()).count(); });
  if (options.metrics_listen == "off") return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsHttp>> started = MetricsHttp::Start(
      options.metrics_listen,
      {.metrics = [this] { return metrics->Serialize(); }, .ready = [this] { return Ready(); }});
  if (!started.ok()) {
    return absl::Status(started.status().code(),
                        absl::StrCat("--metrics_listen: ", started.status().message()));
  }
  http = *std::move(started);
  return absl::OkStatus();
}

absl::Status Server::Impl::StartServing() {
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials =
      MakeServerCredentials(options);
  if (!credentials.ok()) return credentials.status();

  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(options.max_message_bytes));
  // gRPC collects a message before it checks its size, whatever size that says; beyond this it ends
  // streams instead, of its own choice. Its windows shrink once a tenth is in use.
  grpc::ResourceQuota quota("softlossd");
  quota.Resize(static_cast<std::size_t>(kReceiveQuotaBudgets * options.global_budget_bytes));
  builder.SetResourceQuota(quota);
  // gRPC inflates a message before it checks its size.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(options.max_streams));
  // Clients may ping every 10 s; the default of 5 min would cut off those that ping every 30 s.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // For reflection, the only synchronous service.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  builder.RegisterService(&scorer);
  builder.RegisterService(&health_service);
  builder.RegisterService(&quality_service);
  std::vector<int> ports(options.listen.size(), 0);
  for (std::size_t i = 0; i < options.listen.size(); ++i) {
    builder.AddListeningPort(options.listen[i], *credentials, &ports[i]);
  }

  CallEnv call_env{.context = &context,
                   .dispatcher = dispatcher.get(),
                   .scorer = &scorer,
                   .calls = &calls,
                   .draining = &draining};
  HealthEnv health_env{.service = &health_service, .state = &health};
  QualityEnv quality_env{
      .service = &quality_service, .quality = quality.get(), .workers = quality_workers.get()};
  for (std::int64_t i = 0; i < options.io_threads; ++i) {
    io.push_back(std::make_unique<IoThread>(builder.AddCompletionQueue(), call_env, health_env,
                                            quality_env));
  }
  grpc = builder.BuildAndStart();
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (grpc == nullptr || ports[i] == 0) {
      return absl::UnavailableError(
          absl::StrCat("--listen: cannot listen on ", absl::StrJoin(options.listen, ", ")));
    }
    absl::StatusOr<std::string> address = BoundAddress(options.listen[i], ports[i]);
    if (!address.ok()) return address.status();
    addresses.push_back(*std::move(address));
  }
  if (absl::Status s = StartMemory(); !s.ok()) return s;
  for (const std::unique_ptr<IoThread>& thread : io) thread->Start();
  health.SetServing(true);
  metrics->SetReady(true);
  return absl::OkStatus();
}

absl::Status Server::Impl::Ready() const {
  if (draining) return absl::UnavailableError("draining");
  if (!health.serving()) return absl::UnavailableError("starting");
  if (!CanScore()) return absl::UnavailableError("the backend failed");
  return absl::OkStatus();
}

bool Server::Impl::Shutdown(Duration patience) {
  if (std::exchange(shut_down, true)) return true;
  health.SetServing(false);
  if (metrics) metrics->SetReady(false);
  // Watchers and load balancers learn of it while the server still serves.
  calls.ForEach([now = clock.Now()](LiveCall& call) { call.OnTick(now); });
  if (patience > Duration(0)) {
    std::this_thread::sleep_for(std::chrono::seconds(options.drain_grace_s));
  }
  draining = true;
  calls.ForEach([](LiveCall& call) { call.OnDrain(); });
  bool finished = true;
  if (grpc != nullptr) {
    finished = calls.WaitUntilEmpty(clock.Now() + patience);
    // Cancels what is left.
    grpc->Shutdown(std::chrono::system_clock::now());
    calls.WaitUntilEmpty(clock.Now() + kCancelGrace);
  }
  // No call is left that could use a queue or a worker.
  lanes.Shutdown();
  if (workers) workers->Shutdown();
  if (quality_workers) quality_workers->Shutdown();
  for (const std::unique_ptr<IoThread>& thread : io) thread->Shutdown();
  memory_socket.reset();
  if (metrics) metrics->ClearGaugeSources();
  http.reset();
  return finished;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { impl_->Shutdown(Duration(0)); }

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  // The server shuts down what was started if a later step fails.
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>()));
  Impl& impl = *server->impl_;
  impl.options = options;
  if (absl::Status s =
          ValidateAndResolve(impl.options, static_cast<int>(std::thread::hardware_concurrency()));
      !s.ok()) {
    return s;
  }
  for (const auto step :
       {&Impl::StartScoring, &Impl::StartQuality, &Impl::StartMetrics, &Impl::StartServing}) {
    if (absl::Status s = (impl.*step)(); !s.ok()) return s;
  }
  return server;
}

const std::vector<std::string>& Server::addresses() const { return impl_->addresses; }

std::string Server::metrics_address() const {
  return impl_->http ? impl_->http->address() : std::string();
}

std::string Server::backend() const { return std::string(impl_->backend->name()); }

std::string Server::numerics_id() const { return impl_->backend->numerics_id(); }

void Server::Tick() {
  if (!impl_->CanScore()) {
    impl_->health.SetServing(false);
    impl_->metrics->SetReady(false);
  }
  const TimePoint now = impl_->clock.Now();
  impl_->calls.ForEach([now](LiveCall& call) { call.OnTick(now); });
  const auto interval = std::chrono::seconds(impl_->options.quality_alert_interval_s);
  if (impl_->quality && interval.count() > 0 && now >= impl_->next_alerts) {
    impl_->next_alerts = now + interval;
    impl_->quality_workers->Submit([quality = impl_->quality.get()] { quality->RefreshAlerts(); });
  }
}

bool Server::Shutdown() {
  return impl_->Shutdown(std::chrono::seconds(impl_->options.drain_timeout_s));
}

}  // namespace softloss
