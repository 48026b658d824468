// One item on its way through the server: what was announced, what has come, what is scored.
// No threads, no gRPC: the owner (session or unary call) serialises all calls for one item.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/plan.h"
#include "kernels/reduce.h"
#include "proto/wire/message.h"
#include "server/clock.h"
#include "server/item_memory.h"
#include "server/reply.h"
#include "server/score_task.h"
#include "server/slab_pool.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss {

class ChunkTask;
struct GatheredItem;
class Metrics;

// What every item needs from the server. Outlives all items.
struct ServingContext {
  Backend* backend = nullptr;  // for Supports and numerics_id; scoring goes through a Dispatcher
  ByteBudget* budget = nullptr;
  SlabPool* slabs = nullptr;
  Metrics* metrics = nullptr;
  const Clock* clock = nullptr;
  const RegionTable* regions = nullptr;  // null: memory is not shared
  std::string shared_memory_socket;
  std::string version;
  std::int64_t max_message_bytes = 0;
  std::int64_t max_chunk_bytes = 0;
  std::int64_t stream_credit_bytes = 0;
  std::int64_t stream_credit_items = 0;
  Duration item_stall_timeout{};
};

struct ItemState {
  std::uint64_t id = 0;
  ItemPlan plan;
  std::shared_ptr<const LossSpec> spec;
  ItemMemory memory;  // until it is scored
  TimePoint arrived;
  TimePoint deadline = TimePoint::max();
  TimePoint last_chunk;  // when a chunk last came
  std::int64_t rows_received = 0;
  std::int64_t rows_scored = 0;
  bool last_received = false;
  bool answered = false;  // result or error is on its way; whatever else comes is dropped
  bool numerics_changed = false;
  std::shared_ptr<GatheredItem> gathered;  // chunks that wait for others (gathered_item.h)

  absl::InlinedVector<LeafSum, 4> leaves;  // of the rows received so far
  Tally tally;
  TaskTimes times;
  absl::InlinedVector<ChunkTask*, 2> tasks;  // in flight

  bool complete() const { return last_received && rows_scored == plan.geometry.rows(); }
};

// Receives scored chunks, from any thread.
class ScoredSink {
 public:
  virtual ~ScoredSink() = default;
  virtual void OnScored(ChunkTask& task) = 0;
};

// A chunk of an item, with all that its segment points to.
class ChunkTask final : public ScoreTask {
 public:
  void Done() override {
    // The sink may outlive its owner's last other reference only through this task.
    std::shared_ptr<ScoredSink> keep = std::move(sink);
    keep->OnScored(*this);
  }

  // Of a gathered item: the rows and the gradient of a chunk as it came.
  struct Part {
    std::int64_t row_begin = 0, rows = 0;
    Slab gradient;
    Charge charge;
  };

  std::shared_ptr<ItemState> item;
  std::vector<Part> parts;  // empty unless gathered; `gradient` then is the last one's, once scored
  std::int64_t row_begin = 0;
  std::int64_t wire_bytes = 0;           // credit to return
  std::shared_ptr<const void> received;  // the message that the fragments point into
  Slab gradient;
  Slab row_loss;
  absl::InlinedVector<Fragment, 1> prediction_fragments, label_fragments;  // in shared memory
  absl::InlinedVector<MutableFragment, 1> gradient_fragments;
  MutableFragment row_loss_fragment;
  absl::InlinedVector<LeafSum, 4> leaves;
  Charge charge;
  std::shared_ptr<ScoredSink> sink;
};

// Checks an item's header. The status is the item's error: INVALID_ARGUMENT, UNIMPLEMENTED,
// FAILED_PRECONDITION (required_numerics_id), or NOT_FOUND and OUT_OF_RANGE (shared memory), naming
// field, rule and value.
absl::StatusOr<std::shared_ptr<ItemState>> AdmitItem(const ServingContext& context,
                                                     const v1::Item& header,
                                                     std::shared_ptr<const LossSpec> spec,
                                                     std::uint64_t id, TimePoint now);

// Tensor bytes of a chunk that travel: its own, and its reply's.
struct ChunkBytes {
  std::int64_t request = 0, reply = 0;
};

// Checks that rows [item->rows_received, +rows) come in the right place and have their bytes, and that
// they and their reply fit in messages. INVALID_ARGUMENT.
absl::StatusOr<ChunkBytes> MeasureChunk(const ItemState& item, const wire::Bulk& bulk,
                                        std::int64_t rows, std::int64_t max_tensor_bytes);

// Charges the budget; its refusal is counted.
absl::StatusOr<Charge> ChargeItem(const ServingContext& context,
                                  const std::shared_ptr<Tenant>& tenant, std::int64_t bytes);

absl::Status OutOfMemory(std::int64_t bytes);

// Checks rows [item->rows_received, +rows) against their bytes, charges the budget (request plus
// reply; not what lies in shared memory), and makes the task. On success the rows count as received. Fails with INVALID_ARGUMENT
// or the budget's own refusal.
absl::StatusOr<std::unique_ptr<ChunkTask>> MakeChunkTask(
    const ServingContext& context, const std::shared_ptr<Tenant>& tenant,
    const std::shared_ptr<ItemState>& item, const wire::Bulk& bulk, std::int64_t rows,
    std::int64_t max_tensor_bytes, std::int64_t wire_bytes, std::shared_ptr<const void> received,
    TimePoint now);

// Takes a scored chunk's sums into its item. The status is the item's error, if the chunk failed.
absl::Status AddScored(ItemState& item, ChunkTask& task);

// The result of a complete item; INVALID_ARGUMENT under LabelCheck::kStrict.
absl::StatusOr<v1::ItemResult> FinishItem(const ServingContext& context, const ItemState& item);

// Tells the metrics how an item ended; once for each Metrics::ItemStarted. `result` is null unless
// `status` is OK.
void ObserveItem(const ServingContext& context, const ItemState& item, const absl::Status& status,
                 const v1::ItemResult* result);

// Whether the same request may succeed later, or elsewhere.
bool IsRetryable(absl::StatusCode code);

// An item's failure as it goes on the wire.
v1::ItemError ToItemError(const absl::Status& status);

}  // namespace softloss
