#include "kernels/row_semantics.h"

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

double LabelStep(const LabelFormat& label) {
  switch (label.dtype) {
    case DType::kF16: return 0x1p-11;
    case DType::kBF16: return 0x1p-8;
    case DType::kF64: return 0x1p-53;
    case DType::kU8: return label.scale == LabelScale::kRowSum ? 0x1p-24 : 1.0 / 255;
    default: return 0x1p-24;
  }
}

}  // namespace

std::string NumericsId(std::string_view backend, std::string_view target) {
  return absl::StrCat(std::string(backend), "-", std::string(target), "-", SOFTLOSS_BUILD);
}

double NormalizationTolerance(const LabelFormat& label, std::int64_t classes) {
  const std::int64_t values = label.kind == LabelKind::kSparse ? label.k : classes;
  return 1e-4 + static_cast<double>(values) * 0.5 * LabelStep(label);
}

absl::Status CheckServed(std::string_view backend, const ScoreKey& key, bool serves_loss,
                         bool serves_general, bool serves_sparse) {
  if (!serves_loss) {
    return absl::UnimplementedError(absl::StrCat("loss: ", std::string(Name(key.loss)),
                                                 " is not implemented by the ",
                                                 std::string(backend), " backend"));
  }
  if (!serves_sparse && key.label.kind == LabelKind::kSparse) {
    return absl::UnimplementedError(
        absl::StrCat("label.sparse: sparse labels are not implemented by the ",
                     std::string(backend), " backend"));
  }
  if (serves_general || !key.general) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "loss: probabilities, temperature, z_loss and class_mask are not implemented by the ",
      std::string(backend), " backend"));
}

absl::Status BadRowWeight(const Segment& segment, std::int64_t row, float weight) {
  return absl::InvalidArgumentError(
      absl::StrCat("row_weight: must be finite and not negative; row ", segment.first_row + row,
                   " was ", weight));
}

absl::Status BadClassId(const Segment& segment, std::int64_t row, std::int64_t id,
                        std::int64_t classes) {
  return absl::InvalidArgumentError(absl::StrCat("label: class ids must be in [0, ", classes,
                                                 "); row ", segment.first_row + row, " was ", id));
}

absl::Status BadSparseId(const Segment& segment, std::int64_t row, std::int64_t id,
                         std::int64_t classes) {
  if (id >= 0 && id < classes) {
    return absl::InvalidArgumentError(absl::StrCat("label_ids: a row's classes must differ; row ",
                                                   segment.first_row + row, " has class ", id,
                                                   " twice"));
  }
  return absl::InvalidArgumentError(absl::StrCat("label_ids: class ids must be in [0, ", classes,
                                                 "); row ", segment.first_row + row, " was ", id));
}

}  // namespace softloss
