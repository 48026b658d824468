#include "softloss/client.h"

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/error.h"
#include "client/cpp/lane.h"
#include "client/cpp/memory_share.h"
#include "client/cpp/pending.h"
#include "client/cpp/routing.h"
#include "grpcpp/client_context.h"
#include "softloss/v1/scorer.grpc.pb.h"

namespace softloss {
namespace {

using internal::Clock;
using internal::Lane;
using internal::Pending;

// For answers of the server's side socket, which come at once.
constexpr absl::Duration kMemoryTimeout = absl::Seconds(2);

absl::Status Check(const ClientOptions& o) {
  const auto invalid = [](auto... text) {
    return internal::FromCheck(absl::InvalidArgumentError(absl::StrCat(text...)));
  };
  if (o.channels < 0 || o.channels > 64) {
    return invalid("channels: must be in [0, 64]; was ", o.channels);
  }
  if (o.max_attempts < 1) return invalid("max_attempts: must be at least 1; was ", o.max_attempts);
  if (o.max_chunk_bytes < 1) {
    return invalid("max_chunk_bytes: must be positive; was ", o.max_chunk_bytes);
  }
  if (o.connect_timeout <= absl::ZeroDuration()) {
    return invalid("connect_timeout: must be positive; was ",
                   absl::FormatDuration(o.connect_timeout));
  }
  if (o.initial_backoff < absl::ZeroDuration() || o.max_backoff < o.initial_backoff) {
    return invalid(
        "max_backoff: must be at least initial_backoff, which must not be negative; were ",
        absl::FormatDuration(o.max_backoff), " and ", absl::FormatDuration(o.initial_backoff));
  }
  return absl::OkStatus();
}

template <typename To, typename From>
std::vector<To> Known(const From& values, int last) {
  std::vector<To> known;
  for (const int v : values) {
    if (v >= 1 && v <= last) known.push_back(static_cast<To>(v));
  }
  return known;
}

}  // namespace

class Client::Impl {
 public:
  Impl(std::string address, ClientOptions options)
      : address_(std::move(address)), options_(std::move(options)) {
    for (int i = 0; i < std::max(options_.channels, 1); ++i) {
      lanes_.push_back(Lane::Start(address_, options_, share_));
    }
  }
  ~Impl() {
    for (const std::shared_ptr<Lane>& lane : lanes_) lane->Stop();
  }

  absl::Status WaitUntilConnected() {
    for (const std::shared_ptr<Lane>& lane : lanes_) {
      absl::StatusOr<std::string> numerics_id = lane->Connected().get();
      if (!numerics_id.ok()) return numerics_id.status();
      numerics_id_ = *std::move(numerics_id);
    }
    return absl::OkStatus();
  }

  void Submit(ScoreRequest request, Callback done) {
    absl::StatusOr<std::shared_ptr<Pending>> pending =
        Pending::Make(std::move(request), Clock::now(), share_);
    if (!pending.ok()) return done(internal::FromCheck(pending.status()));
    (*pending)->done = std::move(done);
    LaneFor((*pending)->load())->Submit(*std::move(pending));
  }

  absl::StatusOr<SharedMemory> Allocate(std::size_t bytes) {
    absl::StatusOr<std::shared_ptr<internal::Region>> region = share_->Allocate(bytes);
    if (!region.ok()) return internal::FromCheck(region.status());
    return SharedMemory(*std::move(region), bytes);
  }

  bool Allocated(const void* data, std::size_t size) const {
    return static_cast<bool>(share_->Find(data, size));
  }

  absl::StatusOr<ServerCapabilities> Capabilities() const {
    const std::unique_ptr<v1::Scorer::Stub> stub =
        v1::Scorer::NewStub(internal::MakeChannel(address_, options_));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + options_.connect_timeout));
    context.set_wait_for_ready(true);
    v1::GetCapabilitiesResponse m;
    const grpc::Status status = stub->GetCapabilities(&context, {}, &m);
    if (!status.ok()) {
      return internal::MakeError(static_cast<absl::StatusCode>(status.error_code()),
                                 status.error_message(),
                                 status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                                     status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
    }
    constexpr int kLastDType = static_cast<int>(DType::kI64);
    ServerCapabilities c;
    c.server_version = m.server_version();
    c.backend = m.backend();
    c.numerics_id = m.numerics_id();
    c.losses = Known<Loss>(m.losses(), static_cast<int>(kLastLoss));
    c.prediction_dtypes = Known<DType>(m.prediction_dtypes(), kLastDType);
    c.label_dtypes = Known<DType>(m.label_dtypes(), kLastDType);
    c.class_id_dtypes = Known<DType>(m.class_id_dtypes(), kLastDType);
    c.tail_rules = Known<TailRule>(m.tail_rules(), static_cast<int>(TailRule::kZero));
    c.gradient_dtypes = Known<DType>(m.gradient_dtypes(), kLastDType);
    c.max_message_bytes = m.max_message_bytes();
    c.max_chunk_bytes = m.max_chunk_bytes();
    c.stream_credit_bytes = m.stream_credit_bytes();
    c.stream_credit_items = m.stream_credit_items();
    c.shared_memory = m.shared_memory();
    c.unimplemented_fields.assign(m.unimplemented_fields().begin(), m.unimplemented_fields().end());
    return c;
  }

  const std::string& numerics_id() const { return numerics_id_; }

  int channels() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(lanes_.size());
  }

 private:
  // The connection for a request of `bytes`. Opens another one if that would have been better, for the
  // requests that come once it is there.
  std::shared_ptr<Lane> LaneFor(std::int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    absl::InlinedVector<internal::LaneLoad, 8> loads;
    absl::InlinedVector<const std::shared_ptr<Lane>*, 8> lanes;
    for (const std::shared_ptr<Lane>& lane : lanes_) {
      if (!lane->greeted()) continue;
      loads.push_back(lane->load());
      lanes.push_back(&lane);
    }
    const internal::Route route = internal::ChooseLane(loads, bytes);
    const std::shared_ptr<Lane> chosen = *lanes[route.lane];
    if (route.crowded && lanes.size() == lanes_.size() && lanes_.size() < most_lanes_) {
      lanes_.push_back(Lane::Start(address_, options_, share_));
    }
    return chosen;
  }

  const std::string address_;
  const ClientOptions options_;
  const std::shared_ptr<internal::MemoryShare> share_ =
      std::make_shared<internal::MemoryShare>(std::min(options_.connect_timeout, kMemoryTimeout));
  const std::size_t most_lanes_ = options_.channels > 0
                                      ? options_.channels
                                      : internal::MostLanes(std::thread::hardware_concurrency());
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Lane>> lanes_;  // guarded by mutex_; the first has been greeted
  std::string numerics_id_;
};

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<Client> Client::Connect(const std::string& address, ClientOptions options) {
  if (absl::Status s = Check(options); !s.ok()) return s;
  auto impl = std::make_shared<Impl>(address, std::move(options));
  if (absl::Status s = impl->WaitUntilConnected(); !s.ok()) return s;
  return Client(std::move(impl));
}

absl::StatusOr<ScoreResult> Client::Score(const ScoreRequest& request) const {
  return Submit(request).get();
}

std::future<absl::StatusOr<ScoreResult>> Client::Submit(ScoreRequest request) const {
  // Shared, because std::function must be able to copy what it holds.
  auto promise = std::make_shared<std::promise<absl::StatusOr<ScoreResult>>>();
  std::future<absl::StatusOr<ScoreResult>> future = promise->get_future();
  Submit(std::move(request), [promise](absl::StatusOr<ScoreResult> outcome) {
    promise->set_value(std::move(outcome));
  });
  return future;
}

void Client::Submit(ScoreRequest request, Callback done) const {
  impl_->Submit(std::move(request), std::move(done));
}

absl::StatusOr<SharedMemory> Client::Allocate(std::size_t bytes) const {
  return impl_->Allocate(bytes);
}

bool Client::Allocated(const void* data, std::size_t size) const {
  return impl_->Allocated(data, size);
}

absl::StatusOr<ServerCapabilities> Client::Capabilities() const { return impl_->Capabilities(); }

const std::string& Client::numerics_id() const { return impl_->numerics_id(); }

int Client::channels() const { return impl_->channels(); }

}  // namespace softloss
