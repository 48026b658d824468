// Where the lines of a [classes, rows] tile lie in a row-major tensor [outer, classes, inner].
#pragma once

#include <algorithm>
#include <cstdint>

#include "layout/geometry.h"

namespace softloss {

// Calls visit(element_offset, elements) for each contiguous piece of rows [row_begin, row_begin +
// rows), in the order in which the pieces stand in the chunk's bytes. One piece when the class axis
// is last; otherwise, class by class, one piece for each outer index that the range touches.
template <typename Visit>
void ForEachPiece(const Geometry& g, std::int64_t row_begin, std::int64_t rows, Visit visit) {
  if (rows == 0) return;
  if (g.class_last()) {
    visit(row_begin * g.classes, rows * g.classes);
    return;
  }
  const std::int64_t row_end = row_begin + rows;
  for (std::int64_t c = 0; c < g.classes; ++c) {
    for (std::int64_t row = row_begin; row < row_end;) {
      const std::int64_t outer = row / g.inner;
      const std::int64_t next = std::min(row_end, (outer + 1) * g.inner);
      visit((outer * g.classes + c) * g.inner + (row - outer * g.inner), next - row);
      row = next;
    }
  }
}

}  // namespace softloss
