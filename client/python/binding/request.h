// One item to score, as Python hands it over.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "client/python/binding/arrays.h"
#include "kernels/plan.h"

namespace softloss::python {

// Borrows the arrays' memory and keeps it alive. Its shapes agree with each other, which MakePlan
// cannot check: on the wire a label has no shape of its own. Create and destroy with the GIL held.
struct Request {
  ItemShape item;
  std::optional<InputArray> prediction, label, label_ids, mask, row_weight;
  std::optional<OutputArray> gradient, row_loss;

  // A gradient is wanted if it has a dtype; without an array for it, whoever scores brings the memory.
  // With a tail rule the label is sparse: values [rows…, k] of the classes label_ids.
  // Raises InvalidArgumentError naming the field when shapes disagree.
  Request(const LossSpec& spec, InputArray prediction, const std::string& prediction_dtype,
          std::optional<int> class_axis, InputArray label, const std::string& label_dtype,
          bool label_is_class_ids, bool label_row_sum, std::optional<InputArray> mask,
          std::optional<InputArray> row_weight, std::optional<OutputArray> gradient,
          const std::string& gradient_dtype, std::optional<OutputArray> row_loss,
          std::optional<InputArray> label_ids, const std::string& label_ids_dtype,
          const std::optional<std::string>& tail);
};

template <typename Array>
absl::Span<const std::byte> Bytes(const std::optional<Array>& array) {
  if (!array) return {};
  return {static_cast<const std::byte*>(static_cast<const void*>(array->data())), array->nbytes()};
}

inline absl::Span<std::byte> MutableBytes(std::optional<OutputArray>& array) {
  if (!array) return {};
  return {static_cast<std::byte*>(static_cast<void*>(array->data())), array->nbytes()};
}

// As Python names it.
const char* TailName(TailRule tail);

// Spec (a LossSpec, validated), Request, and Totals (what comes back beside the arrays).
void BindRequest(nb::module_& m);

}  // namespace softloss::python
