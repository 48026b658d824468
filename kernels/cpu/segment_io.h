// A segment's tensors as the scorers see them: decoded blocks of rows in, encoded blocks out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/sparse_labels.h"
#include "kernels/plan.h"

namespace softloss::cpu {

template <typename T>
inline constexpr DType kNative = sizeof(T) == 4 ? DType::kF32 : DType::kF64;

// T is the type of computation. Element ranges are of the tensor as it lies in the segment. Pointers
// that are returned hold until the next call for the same tensor, and may be unaligned.
template <typename T>
class SegmentIo {
 public:
  SegmentIo(const ScoreKey& key, const Segment& segment, Scratch& scratch);

  const ScoreKey& key() const { return key_; }
  const Segment& segment() const { return segment_; }
  Scratch& scratch() { return scratch_; }

  // Rows [row, row + n): weights and, for class-id labels, ids; of these rows sparse labels may then be
  // read as dense ones. Entries up to the next multiple of
  // kRowQuantum get weight -1. Masked and ignored rows get weight -1 and id -1. INVALID_ARGUMENT for
  // the first row that is wrong.
  absl::Status ReadRows(std::int64_t row, std::size_t n, T* weight, std::int64_t* ids);

  // [begin, begin + n) of the tensor: in place, else in `to`, which takes n elements.
  const T* Predictions(std::int64_t begin, std::size_t n, T* to);
  // Dense labels; sparse ones as if they were [rows, classes], wherever the class axis is.
  const T* Labels(std::int64_t begin, std::size_t n, T* to);
  // Where they lie before they are decoded, if in one piece, else null.
  const std::byte* RawPredictions(std::int64_t begin, std::size_t n);
  const std::byte* RawLabels(std::int64_t begin, std::size_t n);
  // n elements from `begin`, `stride` apart.
  void StridedPredictions(std::int64_t begin, std::int64_t stride, std::size_t n, T* to);
  // Of a row.
  void StridedLabels(std::int64_t begin, std::int64_t stride, std::size_t n, T* to);

  bool sparse() const { return key_.label.kind == LabelKind::kSparse; }
  const SparseLabels<T>& sparse_labels() const { return sparse_; }

  // Where to compute [begin, begin + n): in place, else `scratch`. WriteX afterwards is then what
  // delivers it; for results in place it does nothing.
  T* GradientPlace(std::int64_t begin, std::size_t n, T* scratch);
  // The place itself, if it is to be written past the caches and is aligned for that; else null.
  T* StreamedGradientPlace(std::int64_t begin, std::size_t n);
  void WriteGradient(std::int64_t begin, std::size_t n, const T* from);
  void WriteStridedGradient(std::int64_t begin, std::int64_t stride, std::size_t n, const T* from);
  T* RowLossPlace(std::int64_t begin, std::size_t n, T* scratch);
  void WriteRowLoss(std::int64_t begin, std::size_t n, const T* from);

  bool wants_gradient() const { return key_.gradient.has_value(); }
  bool wants_row_loss() const { return !segment_.row_loss.empty(); }

 private:
  const ScoreKey& key_;
  const Segment& segment_;
  Scratch& scratch_;
  const std::int64_t prediction_size_, label_size_, gradient_size_;
  const U8 u8_;
  SparseLabels<T> sparse_;
};

}  // namespace softloss::cpu
