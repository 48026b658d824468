// The seam between scheduling and arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/executor.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "layout/fragments.h"

namespace softloss {

// What one leaf contributes, in fp64. Summed over an item by PairwiseSum (kernels/reduce.h).
struct LeafSum {
  double loss = 0;             // Σ row_weight·loss over valid rows; Σ loss over valid regions
  double weight = 0;           // the WEIGHTED denominator's share
  double gradient_square = 0;  // Σ g² of the unscaled gradient; 0 without one
};

// Exact counts, so that any order of summing gives the same. Valid rows (elements) only.
struct Tally {
  std::int64_t valid = 0;  // rows (softmax losses), elements (sigmoid losses) or regions
  std::int64_t nonfinite_predictions = 0;
  std::int64_t nonfinite_labels = 0;
  std::int64_t nonfinite_losses = 0;
  std::int64_t unnormalized_labels = 0;
  std::int64_t out_of_range_labels = 0;

  Tally& operator+=(const Tally& o);
  friend bool operator==(const Tally&, const Tally&) = default;
};

// A chunk of one item, starting at a leaf boundary. Regional losses: whole images, which are their
// leaves; `leaves` has an entry for each, of rows / leaves.size() rows.
struct Segment {
  const LossSpec* spec = nullptr;  // valid, and checked by MakePlan
  std::int64_t rows = 0;
  std::int64_t first_row = 0;  // in the item; only error messages use it

  // Bytes of [rows, classes] (class_last) or of a [classes, rows] tile. Sizes are exact. Where the
  // client shares its memory they may change at any time, and so may the gradient: then the item's
  // results mean nothing, but whatever becomes an index must be read once, before it is checked.
  Fragments prediction;
  // Dense: as prediction. Class ids: [rows]. Sparse: the values [rows, k], whose classes are label_ids
  // [rows, k], wherever the class axis is.
  Fragments label;
  Fragments label_ids;
  Fragments mask;        // u8 [rows], or empty = all count
  Fragments row_weight;  // f32 [rows], or empty = all 1

  // As prediction, in the gradient's dtype; empty if the key has none. Every byte is written.
  MutableFragments gradient;
  // f32, or f64 for f64 predictions. [rows] for softmax losses; the prediction's layout for
  // elementwise ones; [images, classes] for regional ones. Empty if not wanted.
  MutableFragments row_loss;

  // Results. `leaves` has CeilDiv(rows, LeafRows(classes)) entries.
  absl::Span<LeafSum> leaves;
  Tally tally;
  // INVALID_ARGUMENT when a class id or row weight is out of range, or a class twice in a sparse label,
  // naming the item's row and the value; the other outputs are then meaningless.
  absl::Status status;
};

// Scores segments of one key. A row's results (loss, gradient) and a leaf's sum depend only on that
// leaf's contents, the key and the spec (of a regional loss on its image's): never on the batch, the chunk, the fragments or the threads.
class Backend {
 public:
  virtual ~Backend() = default;

  // "cpu", "reference", "cuda".
  virtual std::string_view name() const = 0;

  // True for devices: called by one thread at a time, and best with large batches.
  virtual bool batched() const { return false; }

  // Equal ids give equal bits: backend, build, and SIMD target or GPU architecture.
  virtual std::string numerics_id() const = 0;

  // OK, or UNIMPLEMENTED naming what this backend lacks.
  virtual absl::Status Supports(const ScoreKey& key) const = 0;

  // Fills every segment's outputs, tally and status. A status of its own only when the device failed
  // and no segment was scored: RESOURCE_EXHAUSTED (out of memory, may be retried in smaller batches)
  // or INTERNAL (the backend is unusable from now on). Thread-safe for CPU backends; device backends
  // are called by one thread at a time.
  virtual absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch,
                             Executor& executor) = 0;
};

}  // namespace softloss
