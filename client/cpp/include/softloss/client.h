// The C++ client of a softloss server: predictions and labels go up, loss and gradient come back.
//
//   auto client = softloss::Client::Connect("unix:/run/softloss.sock");
//   softloss::ScoreRequest request;
//   request.spec.loss = softloss::Loss::kSoftmaxCrossEntropy;
//   request.item = {.shape = {rows, classes}, .class_axis = -1, .gradient = softloss::DType::kF32};
//   request.prediction = logits;
//   request.label = soft_labels;
//   absl::StatusOr<softloss::ScoreResult> result = client->Score(request);
//
// Errors are absl::Status: INVALID_ARGUMENT names the field, the rule and the value;
// GetErrorInfo(status) has the field on its own and whether the same request may succeed later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "layout/dtype.h"

namespace grpc {
class ChannelCredentials;
}

namespace softloss {

struct ClientOptions {
  // Connections to the server, each with a thread of its own; one moves about as much as one core can.
  // 0: one, and more as they are needed: another for small requests (128 KiB and less, up and down)
  // once bulk is in their way, and more for bulk on machines with cores to spare, 5 at most. With
  // several, small requests go where there is least bulk, and bulk leaves the last one to them.
  int channels = 0;

  // How long Connect may take, tries again included, and how long each later attempt to connect may.
  absl::Duration connect_timeout = absl::Seconds(10);

  // Send unanswered requests again when a connection breaks or the server says that a refusal is
  // temporary. Scoring is pure, so this is safe; the answer is the same, bit by bit (see
  // ScoreRequest::allow_numerics_change). Otherwise they fail with an error that IsRetryable().
  bool retry = true;
  // How often one request may be sent, the first time included.
  int max_attempts = 10;
  // The pause before the second attempt; it doubles with each failure, up to max_backoff.
  absl::Duration initial_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);

  // Bytes of tensors a message, request and reply alike. The server's own limit applies too.
  std::int64_t max_chunk_bytes = 1 << 20;

  // Null: plaintext, for loopback and Unix sockets.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
};

namespace internal {
class Region;
}

// Memory aligned to 64 bytes, for what the client allocates. Moves, does not copy.
class Buffer {
 public:
  Buffer() = default;
  // Uninitialised.
  explicit Buffer(std::size_t size);
  // Of another owner, which `memory` keeps.
  Buffer(std::shared_ptr<void> memory, std::size_t size) : data_(std::move(memory)), size_(size) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  void* data() { return data_.get(); }
  const void* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  std::shared_ptr<void> data_;
  std::size_t size_ = 0;
};

// Memory that a server on this host reads and writes where it is: what Client::Allocate returns.
// Zeroed at first, aligned to pages. Moves, does not copy; requests in flight keep what they use.
//
// The server maps it too. Whatever is in it may be read there until the last handle is gone.
class SharedMemory {
 public:
  SharedMemory() = default;
  explicit SharedMemory(std::shared_ptr<internal::Region> region, std::size_t size)
      : region_(std::move(region)), size_(size) {}
  SharedMemory(SharedMemory&& other) noexcept
      : region_(std::move(other.region_)), size_(std::exchange(other.size_, 0)) {}
  SharedMemory& operator=(SharedMemory&& other) noexcept {
    region_ = std::move(other.region_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  void* data() const;
  std::size_t size() const { return size_; }
  std::span<std::byte> span() const { return {static_cast<std::byte*>(data()), size_}; }

  // OK while the server has it. Otherwise why requests in it go by the wire at present: the server is
  // on another host, shares no memory, or refused this much.
  absl::Status status() const;

 private:
  std::shared_ptr<internal::Region> region_;
  std::size_t size_ = 0;
};

// What to score. Tensors are row-major without gaps, of any alignment, and are borrowed: they must
// stay unchanged until the request completes. Outputs the caller gives must not overlap the inputs.
//
// Where prediction, label and (if given) gradient lie in SharedMemory of the same client, they do not
// travel: the server works in place, and a gradient that the caller does not give comes back in such
// memory too. Masks, row weights, ids of sparse labels and row losses travel; if they exceed a message, everything does.
// ScoreResult::transport says what happened. If the connection broke, a server that lives on may write
// to the gradient of a failed request for a moment longer.
struct ScoreRequest {
  // Requests with an equal spec share one definition a connection.
  LossSpec spec;
  ItemShape item;

  const void* prediction = nullptr;  // ItemShape::shape of ItemShape::prediction
  // Dense: as prediction, of LabelFormat::dtype. Class ids: one a row, in the prediction's shape
  // without the class axis. Sparse: the values [rows, k], rows in the order of that shape.
  const void* label = nullptr;
  const void* mask = nullptr;        // u8 [rows], 0 = does not count; null unless item.has_mask
  const void* row_weight = nullptr;  // f32 [rows]; null unless item.has_row_weight
  // Sparse labels: the classes [rows, k] of the values, of LabelFormat::id_dtype; else null.
  const void* label_ids = nullptr;

  // Where to write the gradient (the prediction's shape, ItemShape::gradient) and the row losses
  // (f32, or f64 for f64 predictions; [rows] for softmax losses, the prediction's shape for sigmoid
  // losses, [images, classes] for losses of regions). Null: the client allocates, if they are wanted at all. Undefined after an error.
  void* gradient = nullptr;
  void* row_loss = nullptr;

  // DEADLINE_EXCEEDED after this long; the server stops computing too.
  absl::Duration timeout = absl::InfiniteDuration();

  // Refuse (FAILED_PRECONDITION) to be scored under another numerics_id than this; empty = any.
  std::string required_numerics_id;
  // A request that was partly answered is sent again only to a server with the same numerics_id,
  // so that the result is what it would have been. True: to any; the result says if it changed.
  bool allow_numerics_change = false;
};

// How often the input was out of the ordinary, over valid rows. Counts are of elements, but
// nonfinite_losses and unnormalized_labels are of rows (for sigmoid losses, of elements).
struct Conditions {
  std::int64_t nonfinite_predictions = 0;
  std::int64_t nonfinite_labels = 0;
  std::int64_t nonfinite_losses = 0;
  std::int64_t unnormalized_labels = 0;
  std::int64_t out_of_range_labels = 0;
  bool empty = false;  // nothing was valid; a mean is 0
};

// Where the time went in the server, summed over the request's chunks, and in all.
struct StageTimes {
  absl::Duration decode;
  absl::Duration queue;
  absl::Duration host_to_device;
  absl::Duration compute;
  absl::Duration device_to_host;
  absl::Duration encode;
  absl::Duration total;  // in this client, from submission to completion
};

enum class Transport : std::uint8_t {
  kWire,
  kSharedMemory,  // prediction, label and gradient were not sent
};

struct ScoreResult {
  double loss = 0;  // after the reduction; for Reduction::kNone the sum
  double loss_sum = 0;
  double denominator = 1;
  // Multiply the gradient by this: 1/denominator for a mean, otherwise 1.
  double gradient_scale = 1;
  double gradient_l2_norm = 0;   // of the unscaled gradient; 0 without one
  std::int64_t valid_count = 0;  // rows (softmax losses), elements (sigmoid losses) or regions
  Conditions conditions;
  StageTimes times;
  // Equal ids give equal bits: backend, build, SIMD target or GPU architecture.
  std::string numerics_id;
  bool numerics_changed = false;  // a replay was answered under another id; see ScoreRequest
  std::string label_version;      // of labels that the server keeps
  int attempts = 1;               // how often the request was sent
  Transport transport = Transport::kWire;

  // Empty when not wanted, or when the caller gave the memory.
  Buffer gradient;
  Buffer row_loss;
};

// What a server is able to do.
struct ServerCapabilities {
  std::string server_version;
  std::string backend;
  std::string numerics_id;
  std::vector<Loss> losses;  // those that this client knows too
  std::vector<DType> prediction_dtypes;
  std::vector<DType> label_dtypes;
  std::vector<DType> class_id_dtypes;
  std::vector<TailRule> tail_rules;  // of sparse labels; empty: none
  std::vector<DType> gradient_dtypes;
  std::int64_t max_message_bytes = 0;
  std::int64_t max_chunk_bytes = 0;
  std::int64_t stream_credit_bytes = 0;
  std::int64_t stream_credit_items = 0;
  std::vector<std::string> unimplemented_fields;  // known to the contract, refused by this server
  bool shared_memory = false;                     // with this client, for it is on the same host
};

// What an error says beyond its code and text.
struct ErrorInfo {
  std::string field;       // "label.dtype", or empty
  bool retryable = false;  // the same request may succeed later
};

// Of an error that came from a Client.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);
bool IsRetryable(const absl::Status& status);

// A connection to a server. Copies share it; every method may be called from any thread. When the
// last copy goes, outstanding requests complete with CANCELLED and the threads end.
//
// gRPC does not survive fork(): a process that forks workers creates its clients in the children.
class Client {
 public:
  using Callback = std::function<void(absl::StatusOr<ScoreResult>)>;

  // Returns once every channel is connected and has the server's greeting. `address` is a gRPC
  // target: "localhost:7070", "unix:/run/softloss.sock". DEADLINE_EXCEEDED, retryable, if the server
  // cannot be reached in options.connect_timeout; INVALID_ARGUMENT names an option out of range.
  static absl::StatusOr<Client> Connect(const std::string& address, ClientOptions options = {});

  // Scores and waits. Any number of threads may, at the same time; their requests are pipelined.
  absl::StatusOr<ScoreResult> Score(const ScoreRequest& request) const;

  // Scores in the background. Does not wait for answers; requests that exceed the server's credit wait here.
  std::future<absl::StatusOr<ScoreResult>> Submit(ScoreRequest request) const;

  // As above; `done` is called exactly once, by a thread of the client (by the caller's own if the
  // request is invalid). It must not block: other requests of the channel wait for it.
  void Submit(ScoreRequest request, Callback done) const;

  // Memory for tensors that need not travel; see SharedMemory and ScoreRequest. It is of use with a
  // server on another host too, where it is memory like any other. Registers it with the server, which
  // takes some microseconds. RESOURCE_EXHAUSTED if this host has not so much.
  absl::StatusOr<SharedMemory> Allocate(std::size_t bytes) const;

  // Whether all of [data, data + size) lies in memory that this client allocated.
  bool Allocated(const void* data, std::size_t size) const;

  // Asks the server. Blocks, for connect_timeout at most.
  absl::StatusOr<ServerCapabilities> Capabilities() const;

  // Of the server, as greeted first; see ScoreResult::numerics_id.
  const std::string& numerics_id() const;

  // Connections at present: ClientOptions::channels, or as many as it has opened so far.
  int channels() const;

 private:
  class Impl;
  explicit Client(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Lets glibc's malloc keep large blocks rather than return them to the kernel each time, which more
// than halves the page faults of a process that moves large messages. For the process as a whole, so
// it is the application's to call, once, at start. Does nothing with other allocators.
void PinMallocThresholds();

}  // namespace softloss
