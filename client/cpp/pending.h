// A request on its way: what it becomes on the wire, and where the replies go.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/encoder.h"
#include "client/cpp/memory_share.h"
#include "kernels/plan.h"
#include "proto/wire/message.h"
#include "softloss/client.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss::internal {

using Clock = std::chrono::steady_clock;

// Where and under which limits a request is sent: one attempt.
struct Attempt {
  std::uint64_t id = 0;
  std::uint32_t spec_id = 0;
  std::int64_t max_chunk_bytes = 0;
  std::string request_key;  // used by the first attempt; later ones keep it
  std::string numerics_id;  // of the server
};

class Pending {
 public:
  // Checks the request, and allocates what the caller did not. `now` is the time of submission.
  static absl::StatusOr<std::shared_ptr<Pending>> Make(ScoreRequest request, Clock::time_point now,
                                                       std::shared_ptr<MemoryShare> share);

  // Starts over, from row 0. INVALID_ARGUMENT if not even a leaf fits into a message.
  absl::Status Begin(Attempt attempt, Clock::time_point now);
  std::uint64_t id() const { return attempt_.id; }
  int attempts() const { return attempts_; }

  bool sent_all() const { return sent_all_; }
  bool sent_any() const { return next_row_ > 0 || sent_all_; }
  Message NextChunk();

  // Takes in a reply to this attempt. INTERNAL if it is not one the contract allows.
  absl::Status Store(const v1::ChunkResult& reply, const wire::Bulk& bulk);

  // The reply that has `result` was stored; moves the buffers out.
  ScoreResult TakeResult(const v1::ItemResult& message, Clock::time_point now);

  // Whether the tensors of this attempt are in shared memory.
  bool shared() const { return shared_; }
  // From now on everything is sent.
  void StopSharing() { shareable_ = false; }
  // Between sending them and the answer, the server refers to the caller's tensors.
  void Hold() { borrowed_.fetch_add(1, std::memory_order_relaxed); }
  void Release() { borrowed_.fetch_sub(1, std::memory_order_relaxed); }

  // True while gRPC or the server still refers to the caller's tensors.
  bool borrowed() const { return borrowed_.load(std::memory_order_acquire) != 0; }

  const std::string& spec() const { return spec_; }  // a serialised v1::LossSpec
  std::int64_t load() const { return load_; }        // bytes, up and down
  Clock::time_point deadline() const { return deadline_; }

  // Kept by the lane.
  int failures = 0;
  bool finished = false;
  std::optional<absl::StatusOr<ScoreResult>> outcome;
  Client::Callback done;

 private:
  Pending() = default;
  absl::Status CheckPointers() const;
  void FindPlaces();
  bool Share();
  void StoreTile(const wire::FragmentVector& from, std::size_t element, std::int64_t row_begin,
                 std::int64_t rows, void* to) const;

  ScoreRequest request_;
  ItemPlan plan_;
  std::string spec_;
  v1::Item item_;  // as sent, attempt by attempt
  Clock::time_point submitted_;
  Clock::time_point deadline_;
  std::int64_t load_ = 0;
  ScoreResult result_;  // owns what the caller did not give
  void* gradient_ = nullptr;
  void* row_loss_ = nullptr;

  std::shared_ptr<MemoryShare> share_;
  Placement prediction_at_, label_at_, gradient_at_;
  bool shareable_ = false;  // the tensors lie in regions
  bool shared_ = false;

  Attempt attempt_;
  int attempts_ = 0;
  std::int64_t chunk_rows_ = 0;
  std::int64_t next_row_ = 0;
  bool sent_all_ = false;
  std::vector<bool> answered_;  // a chunk each
  std::int64_t answered_rows_ = 0;
  std::string answered_by_;  // the numerics_id that a part of an earlier attempt was scored under

  std::atomic<int> borrowed_{0};
};

}  // namespace softloss::internal
