#include "server/item_memory.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

struct Tensor {
  const char* field;
  const v1::SharedMemory* range;  // null: in the messages
  std::int64_t row_bytes;
  RegionRange* found;
};

}  // namespace

absl::Status ResolveMemory(const RegionTable* regions, const v1::Item& header, const ItemPlan& plan,
                           ItemMemory* memory) {
  const auto given = [](bool has, const v1::SharedMemory& m) { return has ? &m : nullptr; };
  const Tensor tensors[] = {
      {"item.prediction_memory", given(header.has_prediction_memory(), header.prediction_memory()),
       plan.prediction_row_bytes, &memory->prediction},
      {"item.label_memory", given(header.has_label_memory(), header.label_memory()),
       plan.label_row_bytes, &memory->label},
      {"item.gradient_memory", given(header.has_gradient_memory(), header.gradient_memory()),
       plan.gradient_row_bytes, &memory->gradient},
  };
  for (const Tensor& t : tensors) {
    if (t.range == nullptr) continue;
    if (regions == nullptr) {
      return absl::UnimplementedError(
          absl::StrCat(t.field, ": this server shares no memory; see --shared_memory_socket"));
    }
    if (t.row_bytes == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(t.field, ": must be absent without item.gradient_dtype; was given"));
    }
    // The plan has made sure that a tensor's bytes can be counted.
    const auto size = static_cast<std::uint64_t>(plan.geometry.rows() * t.row_bytes);
    if (t.range->length() != size) {
      return absl::InvalidArgumentError(absl::StrCat(t.field, ".length: ", plan.geometry.rows(),
                                                     " rows of ", t.row_bytes, " bytes make ", size,
                                                     "; was ", t.range->length()));
    }
    absl::StatusOr<RegionRange> found =
        regions->Find(header.shared_memory_session(), t.field, t.range->region(), t.range->offset(),
                      t.range->length());
    if (!found.ok()) return found.status();
    *t.found = *std::move(found);
  }
  for (const Tensor* input : {&tensors[0], &tensors[1]}) {
    if (!memory->gradient || !memory->gradient.Overlaps(*input->found)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("item.gradient_memory.offset: must not overlap ", input->field, ", [",
                     input->range->offset(), ", ", input->range->offset() + input->range->length(),
                     "); was [", header.gradient_memory().offset(), ", ",
                     header.gradient_memory().offset() + header.gradient_memory().length(), ")"));
  }
  return absl::OkStatus();
}

}  // namespace softloss
