// A block of rows, read from a segment's tensors as columns and written back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_selection.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/transpose.h"

namespace softloss::cpu {

template <typename T>
class ColumnBlock {
 public:
  // Both must outlive this.
  ColumnBlock(SegmentIo<T>& io, const ClassSelection& selection) : io_(io), selection_(selection) {}

  // Rows [row, row + n): their logits of the classes that exist, their labels if they are dense, and
  // what the kernel works in. `ids` [n] are theirs otherwise: one-hot labels, 0 for negative ids.
  ClassColumns<T> Read(std::int64_t row, std::size_t n, bool dense, const std::int64_t* ids) {
    Scratch& scratch = io_.scratch();
    ClassColumns<T> block;
    block.classes = selection_.count();
    block.rows = n;
    // Not a power of two: the columns would share the sets of the L1 cache.
    block.stride = (n + kRowQuantum - 1) / kRowQuantum * kRowQuantum + kRowQuantum;
    const std::size_t size = block.classes * block.stride;
    block.x = scratch.x.template Get<T>(size);
    block.t = scratch.t.template Get<T>(size);
    block.spare = scratch.spare.template Get<T>(size);
    block.gradient = io_.wants_gradient();
    ahead_.clear();
    Load(row, block, io_.key().class_last, block.x, [&](std::int64_t at, std::size_t m, T* to) {
      LookAhead(io_.RawPredictions(at, m), m * SizeOf(io_.key().prediction));
      return io_.Predictions(at, m, to);
    });
    if (dense) {
      const bool by_rows = io_.key().class_last || io_.sparse();
      Load(row, block, by_rows, block.t, [&](std::int64_t at, std::size_t m, T* to) {
        LookAhead(io_.RawLabels(at, m), m * SizeOf(io_.key().label.dtype));
        return io_.Labels(at, m, to);
      });
    } else {
      std::fill_n(block.t, size, T(0));
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t position = ids[i] < 0 ? -1 : selection_.Position(ids[i]);
        if (position >= 0) block.t[static_cast<std::size_t>(position) * block.stride + i] = 1;
      }
    }
    block.ahead = ahead_;
    return block;
  }

  // Delivers the gradient of rows [row, …), which the kernel left in block.x; overwrites that.
  void WriteGradient(std::int64_t row, const ClassColumns<T>& block) {
    Scratch& scratch = io_.scratch();
    if (io_.key().class_last) {
      const std::size_t elements = block.rows * selection_.classes();
      T* place =
          io_.GradientPlace(Element(row, 0), elements, scratch.decoded.template Get<T>(elements));
      if (selection_.all()) {
        ColumnsToRows(block.x, block.stride, block.rows, block.classes, place);
      } else {
        T* squeezed = scratch.g.template Get<T>(block.rows * block.classes);
        ColumnsToRows(block.x, block.stride, block.rows, block.classes, squeezed);
        selection_.Spread(squeezed, block.rows, place);
      }
      io_.WriteGradient(Element(row, 0), elements, place);
      return;
    }
    for (std::size_t c = 0; c < block.classes; ++c) {
      io_.WriteGradient(Element(row, selection_.Index(c)), block.rows, block.x + c * block.stride);
    }
    if (selection_.all()) return;
    std::fill_n(block.x, block.rows, T(0));
    for (std::size_t c = 0; c < selection_.classes(); ++c) {
      if (!selection_.Exists(c)) io_.WriteGradient(Element(row, c), block.rows, block.x);
    }
  }

 private:
  std::int64_t Element(std::int64_t row, std::size_t c) const {
    const auto cls = static_cast<std::int64_t>(c);
    return io_.key().class_last ? row * io_.key().classes + cls : cls * io_.segment().rows + row;
  }

  // What follows what lies in one piece, the next block's, comes in while the kernel works.
  void LookAhead(const std::byte* raw, std::size_t size) {
    if (raw != nullptr) ahead_.push_back({raw + size, size});
  }

  // `by_rows`: `read` reads [rows, classes], wherever the class axis is.
  template <class Read>
  void Load(std::int64_t row, const ClassColumns<T>& block, bool by_rows, T* to, Read read) {
    if (by_rows) {
      Scratch& scratch = io_.scratch();
      const std::size_t elements = block.rows * selection_.classes();
      T* const decoded = scratch.decoded.template Get<T>(elements);
      const T* from = read(row * io_.key().classes, elements, decoded);
      if (!selection_.all()) {
        T* squeezed = scratch.g.template Get<T>(block.rows * block.classes);
        selection_.Squeeze(from, block.rows, squeezed);
        from = squeezed;
      }
      RowsToColumns(from, block.rows, block.classes, to, block.stride);
      return;
    }
    for (std::size_t c = 0; c < block.classes; ++c) {
      T* line = to + c * block.stride;
      const T* from = read(Element(row, selection_.Index(c)), block.rows, line);
      if (from != line) std::memcpy(line, from, block.rows * sizeof(T));
    }
  }

  SegmentIo<T>& io_;
  const ClassSelection& selection_;
  std::vector<Fragment> ahead_;
};

}  // namespace softloss::cpu
