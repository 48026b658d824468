// Every metric of the server, once. Names, labels and buckets: metrics.cc; meaning: docs/metrics.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/loss.h"
#include "kernels/reduce.h"
#include "server/batch_queue.h"
#include "server/score_task.h"

namespace softloss {

enum class RpcMethod : std::uint8_t {
  kScore,
  kScoreStream,
  kGetCapabilities,
  kHealthCheck,
  kHealthWatch,
  kQualityOpenCampaign,
  kQualityListCampaigns,
  kQualityDeleteCampaign,
  kQualityFeed,
  kQualityCloseItems,
  kQualityAnalyze,
};
inline constexpr int kRpcMethods = 11;

// How an item ended. Every item that was started has exactly one.
enum class Outcome : std::uint8_t { kOk, kInvalid, kShed, kExpired, kCancelled, kFailed };
inline constexpr int kOutcomes = 6;

enum class InvalidReason : std::uint8_t {
  kFraming,   // ended the stream: malformed, oversized, an id in use
  kSpec,      // the loss or its parameters
  kShape,     // shapes, dtypes, byte counts, row ranges
  kContents,  // class ids, weights, strict label checks
  kUnimplemented,
};
inline constexpr int kInvalidReasons = 5;

enum class ShedReason : std::uint8_t {
  kBytes,  // the global budget
  kQuota,  // the tenant's budget
  kQueue,  // the batch queue
  kDraining,
  kBackend,  // the device failed
};
inline constexpr int kShedReasons = 5;

enum class BackendErrorKind : std::uint8_t { kOutOfMemory, kSticky, kOther };
inline constexpr int kBackendErrorKinds = 3;

// What became of a vote that was fed to a campaign.
enum class VoteOutcome : std::uint8_t { kAccepted, kDuplicate, kSuperseded, kRefused };
inline constexpr int kVoteOutcomes = 4;

// Why memory that a client wanted to share was refused.
enum class MemoryRefusal : std::uint8_t {
  kLimit,    // too much, or no room
  kInvalid,  // not what the contract asks for
};
inline constexpr int kMemoryRefusals = 2;

// One series of a gauge that has labels.
struct GaugeSample {
  std::vector<std::pair<std::string, std::string>> labels;
  double value;
};

struct ItemObservation {
  Loss loss = Loss::kSigmoidCrossEntropy;
  Outcome outcome = Outcome::kOk;
  double latency_s = 0;  // from the header's arrival to the last reply's hand-over
  std::int64_t rows = 0;
  TaskTimes times;  // summed over its chunks; stages that took 0 ns are left out
  // Of a scored item. A gradient_l2_norm of 0 is taken as "no gradient was asked for".
  std::optional<ItemTotals> totals;
};

// Thread-safe. No method blocks on anything but a short mutex, and none allocates, apart from
// AddGaugeSource and Serialize. Values that are not finite are kept out (one would spoil its series
// for good) and counted in softloss_metrics_dropped_total.
class Metrics {
 public:
  struct BuildInfo {
    std::string version;
    std::string backend;
    std::string numerics_id;
  };

  explicit Metrics(const BuildInfo& info);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void RpcStarted(RpcMethod method);
  // `grpc_code` is the numeric status; unknown numbers count as UNKNOWN. `seconds` for unary calls
  // only: how long a stream was open says nothing.
  void RpcHandled(RpcMethod method, int grpc_code, std::optional<double> seconds = std::nullopt);
  void MessageReceived(RpcMethod method);
  void MessageSent(RpcMethod method);

  // Items in flight: each ItemStarted is followed by one ItemFinished.
  void ItemStarted();
  void ItemFinished(const ItemObservation& item);

  void InvalidInput(InvalidReason reason);
  void Shed(ShedReason reason);
  void ReceivedBytes(std::int64_t bytes);
  void SentBytes(std::int64_t bytes);
  void StreamOpened();
  void StreamClosed();
  void BatchClosed(CloseReason reason, std::int64_t items, std::int64_t bytes);
  void BackendError(BackendErrorKind kind);
  void MemoryRefused(MemoryRefusal reason);
  // An item of which a tensor was in shared memory, and how many bytes were.
  void SharedMemoryItem(std::int64_t bytes);
  void QualityVotes(VoteOutcome outcome, std::int64_t votes);
  void SetReady(bool ready);

  // A gauge that is read when the metrics are. `name` is complete ("softloss_queue_bytes"). `source`
  // may be called from any thread until ClearGaugeSources returns.
  void AddGaugeSource(std::string_view name, std::string_view help, std::function<double()> source);
  // The same with any number of series; whoever gives them keeps the number small.
  void AddGaugeSource(std::string_view name, std::string_view help,
                      std::function<std::vector<GaugeSample>()> source);
  void ClearGaugeSources();

  // The text exposition format, version 0.0.4.
  std::string Serialize() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace softloss
