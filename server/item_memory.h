// The tensors of an item that lie in memory that its client shares.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "kernels/plan.h"
#include "layout/tile.h"
#include "server/region_table.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss {

// The ranges keep their regions mapped.
struct ItemMemory {
  RegionRange prediction, label, gradient;

  bool any() const { return prediction || label || gradient; }
};

// The pieces of a tensor in shared memory, in the order of a chunk of all rows: `element` bytes an
// element, row by row or a [classes, rows] tile.
template <typename Pieces>
void CutMemory(const RegionRange& memory, const Geometry& geometry, std::size_t element,
               Pieces* pieces) {
  ForEachPiece(geometry, 0, geometry.rows(), [&](std::int64_t offset, std::int64_t elements) {
    pieces->push_back({memory.data + offset * element, elements * element});
  });
}

// Finds what `header` refers to and checks it against the plan: sizes are exact, and the gradient
// overlaps neither prediction nor label, since kernels read those again after they begin to write.
// UNIMPLEMENTED if `regions` is null; otherwise INVALID_ARGUMENT, NOT_FOUND or OUT_OF_RANGE.
absl::Status ResolveMemory(const RegionTable* regions, const v1::Item& header, const ItemPlan& plan,
                           ItemMemory* memory);

}  // namespace softloss
