// An item of the load: its tensors, drawn once, and what scoring them must give.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "kernels/reduce.h"
#include "softloss/client.h"

namespace softloss::load {

// A kind of item, and how much of the load it is.
struct ItemKind {
  std::string name;   // what results call it
  double weight = 1;  // its share of the requests, over the sum of all weights
  LossSpec spec;
  ItemShape item;
};

// Immutable once it is shared, or in use; then thread-safe.
class PreparedItem {
 public:
  // Draws logits (or probabilities) and labels, and scores them in this process. INVALID_ARGUMENT as
  // MakePlan; masks and row weights are not drawn.
  static absl::StatusOr<std::unique_ptr<PreparedItem>> Create(const ItemKind& kind,
                                                              std::uint64_t seed);

  // Moves the tensors to memory that the server shares, so that they do not travel. An error says why
  // it shares none. Before the first request.
  absl::Status Share(const Client& client);

  // Borrows the tensors.
  ScoreRequest Request() const;
  // Bytes of prediction and label; and of gradient and row losses.
  std::int64_t request_bytes() const;
  std::int64_t reply_bytes() const;

  // Whether a result is what this process computed: the loss within 1e-5 of the sum of its terms'
  // magnitudes, and of the gradient every value within a few steps of its dtype. `whole` = false looks
  // at the loss alone.
  absl::Status Check(const ScoreResult& result, bool whole) const;

 private:
  PreparedItem() = default;
  std::size_t LabelOffset() const;

  ItemKind kind_;
  ItemPlan plan_;
  std::vector<std::uint8_t> prediction_, label_;
  SharedMemory shared_;  // or in here: the prediction, and from a multiple of 64 bytes on the label
  ItemTotals expected_;
  double loss_scale_ = 0;        // the loss's tolerance
  std::vector<float> gradient_;  // unscaled, or empty
  float gradient_tolerance_ = 0;
};

}  // namespace softloss::load
