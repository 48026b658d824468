// What goes to the device together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"

namespace softloss::cuda {

// Whole leaves of a segment: on the device, a segment of its own. Where its parts lie in a load's input
// and output, in bytes.
struct Piece {
  Segment* segment = nullptr;
  std::int64_t first_row = 0;  // in the segment
  std::int64_t rows = 0;
  std::int64_t first_leaf = 0;  // in the segment
  std::int64_t leaves = 0;
  bool shares_spec = false;  // with the piece before, whose weights it uses

  std::size_t prediction = 0, label = 0, mask = 0, row_weight = 0;
  std::size_t class_weight = 0, pos_weight = 0, class_mask = 0;
  std::size_t gradient = 0, row_loss = 0, leaf_records = 0;
};

struct Load {
  std::vector<Piece> pieces;
  std::int64_t leaves = 0;
  std::size_t input_size = 0;   // begins with a DeviceSegment a piece
  std::size_t output_size = 0;  // begins with the Counters of each
  std::size_t counters_size = 0;
};

// All rows of the batch, in order, in loads of about `bytes` of tensors each: no more, unless one leaf has
// more.
std::vector<Load> CutIntoLoads(const ScoreKey& key, absl::Span<Segment> batch, std::size_t bytes);

// Tensors of all of the batch, in bytes.
std::size_t TensorBytes(absl::Span<const Segment> batch);

// Copies a piece's rows between a segment's tensor, which has `lines` lines of all its rows, and `flat`,
// which has lines of the piece's only.
void GatherRows(const Piece& piece, Fragments from, std::int64_t lines, std::byte* flat);
void ScatterRows(const Piece& piece, const std::byte* flat, std::int64_t lines,
                 MutableFragments to);

}  // namespace softloss::cuda
