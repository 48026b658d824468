// Every shape and dtype check, once, before any byte is scored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/loss.h"
#include "layout/dtype.h"
#include "layout/geometry.h"

namespace softloss {

enum class LabelKind : std::uint8_t { kDense = 1, kClassId = 2, kSparse = 3 };

// How u8 labels become probabilities; values equal softloss.v1.LabelScale.
enum class LabelScale : std::uint8_t { kDivideBy255 = 1, kRowSum = 2 };

// What the classes outside a sparse label's k hold; values equal softloss.v1.TailRule. With a sum Σ of
// the k values, the rest of the mass is max(0, 1 - Σ).
enum class TailRule : std::uint8_t {
  kNone = 0,         // for labels that are not sparse
  kRenormalize = 1,  // nothing; the k values are divided by Σ, unless that is 0
  kUniform = 2,      // the rest of the mass in equal parts
  kBucket = 3,       // the rest of the mass, as one class whose probability is the sum of theirs
  kZero = 4,         // nothing; the k values are as written
};

// Of a sparse label; more is not sparse.
inline constexpr std::int32_t kMaxSparseClasses = 1024;

struct LabelFormat {
  LabelKind kind = LabelKind::kDense;
  DType dtype = DType::kF32;                    // sparse: of the values
  LabelScale scale = LabelScale::kDivideBy255;  // u8 only
  // Sparse only: classes a row, the dtype of their ids, and the tail.
  std::int32_t k = 0;
  DType id_dtype = DType::kI64;
  TailRule tail = TailRule::kNone;
  friend bool operator==(const LabelFormat&, const LabelFormat&) = default;
};

// The spec's normalizer, or what its profile says for such labels.
Normalizer NormalizerOf(const LossSpec& spec, LabelKind labels);

// What selects a kernel: the batch key. Parameters (LossSpec) differ a segment.
struct ScoreKey {
  Loss loss = Loss::kSigmoidCrossEntropy;
  DType prediction = DType::kF32;
  LabelFormat label;
  std::optional<DType> gradient;  // absent = no gradient is wanted
  std::int64_t classes = 1;
  bool class_last = true;
  // The spec has what only the kernels for any loss serve: probabilities, a temperature, z-loss or a
  // class mask.
  bool general = false;
  Activation activation = Activation::kDefault;  // of regional losses: never that
  friend bool operator==(const ScoreKey&, const ScoreKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ScoreKey& k) {
    return H::combine(std::move(h), k.loss, k.prediction, k.label.kind, k.label.dtype,
                      k.label.scale, k.label.k, k.label.id_dtype, k.label.tail, k.gradient,
                      k.classes, k.class_last, k.general, k.activation);
  }
};

// An item as its header describes it.
struct ItemShape {
  std::vector<std::int64_t> shape;  // of the prediction
  std::optional<int> class_axis;
  DType prediction = DType::kF32;
  LabelFormat label;
  std::optional<DType> gradient;
  bool has_mask = false;
  bool has_row_weight = false;
  bool want_row_loss = false;
};

// A validated item: its kernel, and the bytes that each row takes in every tensor.
struct ItemPlan {
  ScoreKey key;
  Geometry geometry;
  bool has_mask = false;
  bool has_row_weight = false;
  bool want_row_loss = false;
  std::int64_t leaf_rows = 1;  // LeafRows(classes); of regional losses an image's rows

  // Bytes a row: 0 where the tensor is absent.
  std::int64_t prediction_row_bytes = 0;
  std::int64_t label_row_bytes = 0;
  std::int64_t label_ids_row_bytes = 0;
  std::int64_t mask_row_bytes = 0;    // u8
  std::int64_t weight_row_bytes = 0;  // f32
  std::int64_t gradient_row_bytes = 0;
  std::int64_t row_loss_row_bytes = 0;  // 0 for regional losses too
  // Regional losses: bytes of an image's losses [classes]. 0 if they are not wanted.
  std::int64_t image_loss_bytes = 0;

  // Whether the item is scored whole, once all of its chunks are there.
  bool regional() const { return IsRegional(key.loss); }
  // Of `rows` rows; for regional losses those of whole images.
  std::int64_t row_loss_bytes(std::int64_t rows) const {
    return rows * row_loss_row_bytes + rows / leaf_rows * image_loss_bytes;
  }
  DType row_loss_dtype() const { return key.prediction == DType::kF64 ? DType::kF64 : DType::kF32; }
  std::int64_t request_row_bytes() const {
    return prediction_row_bytes + label_row_bytes + label_ids_row_bytes + mask_row_bytes +
           weight_row_bytes;
  }
  std::int64_t reply_row_bytes() const { return gradient_row_bytes + row_loss_row_bytes; }
};

// Checks the item against the (already valid) spec. INVALID_ARGUMENT names the field, the rule and
// the value: shapes, dtypes, the class axis that softmax losses need, sizes of class_weight and
// pos_weight, options that do not apply. `rows` × `classes` overflow is refused here.
absl::StatusOr<ItemPlan> MakePlan(const ItemShape& item, const LossSpec& spec);

// Sizes in bytes of a chunk's tensors as received.
struct ChunkSizes {
  std::size_t prediction = 0;
  std::size_t label = 0;
  std::size_t mask = 0;
  std::size_t row_weight = 0;
  std::size_t label_ids = 0;
};

// Checks that rows [row_begin, row_begin + rows) are within the item, multiples of LeafRows(classes)
// unless the range ends the item, and that each tensor has exactly the bytes the plan says.
absl::Status CheckChunk(const ItemPlan& plan, std::int64_t row_begin, std::int64_t rows,
                        const ChunkSizes& sizes);

}  // namespace softloss
