// The logical [rows, classes] view of a tensor, and how rows group into leaves and chunks.
//
// Client, kernels and server agree on this arithmetic: it is part of the bit contract.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace softloss {

// Tensor [outer…, classes, inner…] seen as rows: row r = o·inner + i holds the elements
// (o·classes + c)·inner + i for c in [0, classes).
struct Geometry {
  std::int64_t outer = 0;
  std::int64_t classes = 1;
  std::int64_t inner = 1;
  std::int64_t batch = 0;  // shape[0], or 1 for a scalar

  std::int64_t rows() const { return outer * inner; }
  std::int64_t elements() const { return rows() * classes; }
  // True: a range of rows is a byte range. False: it is a [classes, rows] tile.
  bool class_last() const { return inner == 1; }

  friend bool operator==(const Geometry&, const Geometry&) = default;
};

// The product of `shape`. INVALID_ARGUMENT, naming `field`, if a dimension is negative or the product
// times 8 bytes does not fit in 63 bits.
absl::StatusOr<std::int64_t> CheckedElements(absl::Span<const std::int64_t> shape,
                                             const char* field);

// Without a class axis every element is a row of one class. INVALID_ARGUMENT if the axis is out of
// range or has no classes; a tensor without rows is fine.
absl::StatusOr<Geometry> MakeGeometry(absl::Span<const std::int64_t> shape,
                                      std::optional<int> class_axis);

// Rows in a leaf, the unit whose sum is computed in one fixed order:
// max(1, min(256, 2^floor(log2(16384 / classes)))).
constexpr std::int64_t LeafRows(std::int64_t classes) {
  std::int64_t rows = 256;
  // Exact, since rows divides 16384, where a product could overflow.
  while (rows > 1 && classes > 16384 / rows) rows /= 2;
  return rows;
}

constexpr std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The largest number of rows, whole leaves, whose tensors take at most `max_bytes` at `row_bytes` a
// row; 0 if not even a leaf fits. (An item's last chunk may be shorter.)
constexpr std::int64_t MaxChunkRows(std::int64_t classes, std::int64_t row_bytes,
                                    std::int64_t max_bytes) {
  const std::int64_t leaf = LeafRows(classes);
  return max_bytes / row_bytes / leaf * leaf;
}

}  // namespace softloss
