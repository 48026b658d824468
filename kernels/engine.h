// Scores whole tensors in this process, through the same plans, leaves and backends as the server.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "kernels/reduce.h"

namespace softloss {

// Row-major tensors without gaps; pointers of any alignment. Null where the ItemShape has none.
struct EngineInputs {
  const void* prediction = nullptr;
  const void* label = nullptr;
  const void* mask = nullptr;        // u8 [rows]
  const void* row_weight = nullptr;  // f32 [rows]
  const void* label_ids = nullptr;   // of sparse labels: [rows, k]
};

struct EngineOutputs {
  void* gradient = nullptr;  // the prediction's shape, ItemShape::gradient
  void* row_loss = nullptr;  // ItemPlan::row_loss_dtype()
};

// `chunk_rows` = 0 picks chunks of about 1 MiB (regional losses: one chunk); other values are rounded up to whole leaves. Chunks
// are shared out through `executor`; the bits depend on neither. Thread-safe where the backend is.
absl::StatusOr<ItemTotals> ScoreItem(Backend& backend, Executor& executor, const LossSpec& spec,
                                     const ItemShape& item, const EngineInputs& inputs,
                                     const EngineOutputs& outputs, std::int64_t chunk_rows = 0);

}  // namespace softloss
