// What the scorer of losses over classes asks of a loss. The scorer (class_scorer.cc) reads, decodes
// and transposes; transforms labels; knows weights, masks, leaves, and which rows are unusual.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/row_arrays.h"
#include "kernels/loss.h"
#include "layout/fragments.h"

namespace softloss::cpu {

// Row kernels need at least this many classes: a vector, on every SIMD width.
inline constexpr std::size_t kMinRowClasses = 16;

// Rows longer than this are read and written tile by tile, by losses that can, so that what is decoded
// and encoded stays in the L1 cache.
inline constexpr std::size_t kMaxWholeRow = 1024 + kMinRowClasses;

// Rows side by side in SIMD lanes, the classes of a row in a column: for few classes, and for tiles,
// where rows lie that way already.
template <typename T>
struct ClassColumns {
  std::size_t classes = 0;
  std::size_t rows = 0;
  std::size_t stride = 0;  // ≥ rows, a multiple of kRowQuantum
  T* x = nullptr;          // [classes][stride]: logits in, gradient (with the row weight) out
  T* t = nullptr;          // [classes][stride], as scored
  bool gradient = false;   // otherwise x is unspecified afterwards
  // Fill label_sum and class_weighted, and mark rows with labels outside [0, 1] as unusual; otherwise
  // TransformLabels has.
  bool check_labels = false;
  const T* class_weight = nullptr;  // [classes]; null where there is none or t has it
  const LossSpec* spec = nullptr;
  const LossParameters* parameters = nullptr;  // the spec's
  T* spare = nullptr;  // [classes][stride], for the kernel's own use; t too may be overwritten
  Fragments ahead;     // what will be read next, as far as that is known: a hint
};

// Where tensors lie before they are decoded, or null where they are in pieces: what follows in memory is
// read next. A hint.
struct RawRow {
  const std::byte* x = nullptr;
  const std::byte* t = nullptr;
  std::size_t x_size = 0, t_size = 0;  // bytes an element

  // The same, with `here` for what is not known, wherever in it.
  RawRow KnownOr(const void* here) const {
    RawRow known = *this;
    const auto* const bytes = static_cast<const std::byte*>(here);
    if (x == nullptr) known.x = bytes, known.x_size = 0;
    if (t == nullptr) known.t = bytes, known.t_size = 0;
    return known;
  }
};

// Whole rows one after another, a row's classes in SIMD lanes: at least kMinRowClasses, and at most
// kMaxWholeRow.
template <typename T>
struct ClassRows {
  std::size_t classes = 0;
  std::size_t rows = 0;
  const T* x = nullptr;               // [rows][classes], any alignment
  const T* t = nullptr;               // [rows][classes]; or null, if the loss takes ids:
  const std::int64_t* ids = nullptr;  // [rows], negative for inactive rows; the target is 1 there
  T* gradient = nullptr;              // [rows][classes], any alignment, not over x or t; or null
  // The gradient's rows are aligned to StreamAlignment(), and are written past the caches.
  bool streams = false;
  // [rows][classes rounded up to kRowQuantum] of as many rows as SIMD lanes, for the kernel's own use.
  T* spare = nullptr;
  RawRow raw;
};

// A long row's tensors. Pointers hold until the next call for the same tensor, and may be unaligned.
template <typename T>
class RowTiles {
 public:
  struct Place {
    T* data = nullptr;
    bool streams = false;  // as ClassRows::streams
  };

  virtual ~RowTiles() = default;
  virtual bool has_labels() const = 0;
  virtual bool wants_gradient() const = 0;
  virtual const T* Logits(std::size_t begin, std::size_t n) = 0;
  virtual const T* Labels(std::size_t begin, std::size_t n) = 0;
  // Where to compute the gradient, and what delivers it from there.
  virtual Place GradientPlace(std::size_t begin, std::size_t n) = 0;
  virtual void WriteGradient(std::size_t begin, std::size_t n, const T* from) = 0;
};

// One row, the classes in SIMD lanes: for many classes.
template <typename T>
struct ClassRow {
  std::size_t classes = 0;
  const T* x = nullptr;  // [classes], any alignment
  // [classes], as scored; or null, if the loss takes ids, and the target is `id_weight` at `id` and 0
  // elsewhere.
  const T* t = nullptr;
  std::int64_t id = 0;
  T id_weight = 1;
  T row_weight = 1;
  T* gradient = nullptr;  // [classes], with the row weight, any alignment, not over x or t; or null
  // Null, or what stands for x, t and gradient; only if the loss takes tiles.
  RowTiles<T>* tiles = nullptr;
  RawRow raw;
  const T* class_weight = nullptr;  // [classes]; null where there is none or t has it
  const LossSpec* spec = nullptr;
  const LossParameters* parameters = nullptr;  // the spec's
  T* spare = nullptr;                          // [classes], for the kernel's own use
};

// The loss, without the row weight, is loss + log_factor·log1p(others): logarithms are taken for many
// rows at once (FinishLosses). A loss that needs none leaves log_factor and others 0.
template <typename T>
struct ClassRowResult {
  T loss = 0;
  T log_factor = 0;
  T others = 0;           // ≥ 0
  T label_sum = 0;        // Σ t
  T gradient_square = 0;  // without the row weight
  bool usable = true;     // otherwise the row needs the exact path: all else is unspecified
  bool in_range = true;   // labels in [0, 1]
};

// One row in fp64, for what the vector code does not serve.
struct ExactRow {
  std::size_t classes = 0;
  const double* x = nullptr;
  const double* t = nullptr;            // as scored
  const float* class_weight = nullptr;  // [classes]; null where there is none or t has it
  const LossSpec* spec = nullptr;
};

template <typename T>
struct ClassLoss {
  // Whether class weights change t, like softmax cross entropy's; else the kernels multiply by them.
  bool weighs_labels = true;
  // Whether `row` and `short_rows` take class ids; else they get one-hot labels.
  bool takes_ids = false;
  bool takes_tiles = false;  // whether `row` does

  // Fills rows.loss (0 for inactive rows), rows.gradient_square and the gradient, what check_labels
  // says, and marks unusual rows (kCount, kRescore; marks that check_labels did not ask for are kept):
  // those with a label outside [0, 1], and those whose results are unspecified, with a logit of
  // kExactLogit or more, a label of kExactLabel or more, or NaN. True if it marked a row.
  bool (*columns)(const ClassColumns<T>& block, const RowArrays<T>& rows) = nullptr;

  // For kMinRowClasses classes or more.
  ClassRowResult<T> (*row)(const ClassRow<T>& row) = nullptr;

  // As `columns` where check_labels is set, for labels that are scored as given; entries of the arrays
  // past the rows are left. Null: there is none.
  bool (*short_rows)(const ClassRows<T>& block, const RowArrays<T>& rows) = nullptr;

  // The loss, without the row weight; the gradient to `gradient` [classes], which may be row.x. Null:
  // the reference's arithmetic serves the rows that the kernels do not.
  double (*exact)(const ExactRow& row, double* gradient) = nullptr;
};

// The loss that `spec` asks for, or null if there are no kernels for it. A loss is added here, and in a
// file of its own.
template <typename T>
const ClassLoss<T>* FindClassLoss(const LossSpec& spec);

}  // namespace softloss::cpu
