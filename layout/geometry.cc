#include "layout/geometry.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace softloss {

absl::StatusOr<std::int64_t> CheckedElements(absl::Span<const std::int64_t> shape,
                                             const char* field) {
  // Fewer than 2^60 elements of 8 bytes have a byte count that fits in 63 bits.
  constexpr std::int64_t kMax = (std::int64_t{1} << 60) - 1;
  bool empty = false;
  for (std::int64_t dim : shape) {
    if (dim < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ".shape: dimensions must not be negative; was [",
                       absl::StrJoin(shape, ", "), "]"));
    }
    empty |= dim == 0;
  }
  if (empty) return 0;
  std::int64_t product = 1;
  for (std::int64_t dim : shape) {
    if (dim > kMax / product) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ".shape: the number of elements must be less than 2^60; was [",
                       absl::StrJoin(shape, ", "), "]"));
    }
    product *= dim;
  }
  return product;
}

absl::StatusOr<Geometry> MakeGeometry(absl::Span<const std::int64_t> shape,
                                      std::optional<int> class_axis) {
  constexpr std::size_t kMaxRank = 8;
  if (shape.size() > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("prediction.shape: at most ", kMaxRank, " dimensions; was ", shape.size()));
  }
  absl::StatusOr<std::int64_t> elements = CheckedElements(shape, "prediction");
  if (!elements.ok()) return elements.status();

  Geometry g;
  g.batch = shape.empty() ? 1 : shape[0];
  if (!class_axis.has_value()) {
    g.outer = *elements;
    return g;
  }
  const int rank = static_cast<int>(shape.size());
  const int axis = *class_axis < 0 ? *class_axis + rank : *class_axis;
  if (axis < 0 || axis >= rank) {
    return absl::InvalidArgumentError(absl::StrCat("prediction.class_axis: must be in [", -rank,
                                                   ", ", rank, "); was ", *class_axis));
  }
  g.classes = shape[axis];
  if (g.classes == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("prediction.shape: the class axis must not be empty; was [",
                     absl::StrJoin(shape, ", "), "] with class_axis ", *class_axis));
  }
  // An empty tensor may have other dimensions whose product overflows; it has no rows either way.
  g.outer = 1;
  g.inner = 1;
  if (*elements == 0) {
    g.outer = 0;
    return g;
  }
  for (int i = 0; i < axis; ++i) g.outer *= shape[i];
  for (int i = axis + 1; i < rank; ++i) g.inner *= shape[i];
  return g;
}

}  // namespace softloss
