#include "kernels/cuda/load.h"

#include <algorithm>

#include "kernels/cuda/types.h"
#include "kernels/fragment_cursor.h"
#include "layout/geometry.h"

namespace softloss::cuda {
namespace {

// Hands out aligned ranges of a buffer that does not exist yet.
class Layout {
 public:
  std::size_t Add(std::size_t bytes) {
    const std::size_t at = size_;
    const std::size_t padded = bytes + static_cast<std::size_t>(kSlack);
    constexpr auto kStep = static_cast<std::size_t>(kAlignment);
    size_ += (padded + kStep - 1) / kStep * kStep;
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

std::size_t TensorBytes(const Segment& s) {
  return TotalSize(s.prediction) + TotalSize(s.label) + TotalSize(s.mask) +
         TotalSize(s.row_weight) + TotalSize(s.gradient) + TotalSize(s.row_loss);
}

void Place(Load& load) {
  Layout input;
  Layout output;
  input.Add(load.pieces.size() * sizeof(DeviceSegment));
  load.counters_size = load.pieces.size() * sizeof(Counters);
  output.Add(load.counters_size);
  const Piece* last = nullptr;
  for (Piece& p : load.pieces) {
    const Segment& s = *p.segment;
    p.shares_spec = last != nullptr && last->segment->spec == s.spec;
    if (p.shares_spec) {
      p.class_weight = last->class_weight;
      p.pos_weight = last->pos_weight;
      p.class_mask = last->class_mask;
    } else {
      p.class_weight = input.Add(s.spec->class_weight.size() * sizeof(float));
      p.pos_weight = input.Add(s.spec->pos_weight.size() * sizeof(float));
      p.class_mask = input.Add(s.spec->class_mask.size());
    }
    last = &p;
    // Every tensor has as many bytes for each row.
    const auto share = [&](std::size_t total) {
      return total / static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(p.rows);
    };
    p.prediction = input.Add(share(TotalSize(s.prediction)));
    p.label = input.Add(share(TotalSize(s.label)));
    p.mask = input.Add(share(TotalSize(s.mask)));
    p.row_weight = input.Add(share(TotalSize(s.row_weight)));
    p.leaf_records = output.Add(static_cast<std::size_t>(p.leaves) * sizeof(LeafRecord));
    p.gradient = output.Add(share(TotalSize(s.gradient)));
    p.row_loss = output.Add(share(TotalSize(s.row_loss)));
    load.leaves += p.leaves;
  }
  load.input_size = input.size();
  load.output_size = output.size();
}

// Calls copy(flat, bytes) for each line's share of the piece, with the cursor there.
template <typename Cursor, typename Copy>
void ForEachLine(const Piece& piece, std::size_t size, std::int64_t lines, Cursor& cursor,
                 Copy copy) {
  if (size == 0) return;
  const std::size_t line = size / static_cast<std::size_t>(lines);
  const std::size_t row = line / static_cast<std::size_t>(piece.segment->rows);
  const std::size_t before = static_cast<std::size_t>(piece.first_row) * row;
  const std::size_t bytes = static_cast<std::size_t>(piece.rows) * row;
  if (bytes == line) return copy(0, size);
  for (std::int64_t i = 0; i < lines; ++i) {
    cursor.Skip(i == 0 ? before : line - bytes);
    copy(static_cast<std::size_t>(i) * bytes, bytes);
  }
}

}  // namespace

std::vector<Load> CutIntoLoads(const ScoreKey& key, absl::Span<Segment> batch, std::size_t bytes) {
  const std::int64_t leaf_rows = LeafRows(key.classes);
  std::vector<Load> loads;
  std::size_t room = 0;  // in the last of them
  for (Segment& s : batch) {
    if (s.rows == 0) continue;
    const std::size_t leaf_bytes = std::max<std::size_t>(
        TensorBytes(s) / static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(leaf_rows), 1);
    for (std::int64_t row = 0; row < s.rows;) {
      // A load that has room for less than a leaf takes none, unless it would be empty.
      if (room < leaf_bytes || loads.empty()) {
        loads.emplace_back();
        room = std::max(bytes, leaf_bytes);
      }
      Piece& p = loads.back().pieces.emplace_back();
      p.segment = &s;
      p.first_row = row;
      p.first_leaf = row / leaf_rows;
      const auto leaves = static_cast<std::int64_t>(room / leaf_bytes);
      p.rows = leaves >= CeilDiv(s.rows - row, leaf_rows) ? s.rows - row : leaves * leaf_rows;
      p.leaves = CeilDiv(p.rows, leaf_rows);
      room -= std::min(room, static_cast<std::size_t>(p.leaves) * leaf_bytes);
      row += p.rows;
    }
  }
  for (Load& load : loads) Place(load);
  return loads;
}

std::size_t TensorBytes(absl::Span<const Segment> batch) {
  std::size_t bytes = 0;
  for (const Segment& s : batch) bytes += TensorBytes(s);
  return bytes;
}

void GatherRows(const Piece& piece, Fragments from, std::int64_t lines, std::byte* flat) {
  FragmentCursor cursor(from);
  ForEachLine(piece, TotalSize(from), lines, cursor,
              [&](std::size_t at, std::size_t bytes) { cursor.Copy(bytes, flat + at); });
}

void ScatterRows(const Piece& piece, const std::byte* flat, std::int64_t lines,
                 MutableFragments to) {
  FragmentWriter writer(to);
  ForEachLine(piece, TotalSize(to), lines, writer,
              [&](std::size_t at, std::size_t bytes) { writer.Write(flat + at, bytes); });
}

}  // namespace softloss::cuda
