// Between the wire's LossSpec and Item and the kernels' vocabulary. Client and server share it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "softloss/v1/loss.pb.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss {

// What the fields say, unspecified enums replaced by their documented defaults. Errors start with the
// field's path in the message: INVALID_ARGUMENT for values without a meaning, UNIMPLEMENTED for
// fields and values that are not built; or, from Validate(), with the parameter's name.
absl::StatusOr<LossSpec> SpecFromProto(const v1::LossSpec& message);

// The tensors' description only: spec_id or spec, request_key, numerics and timeout are the caller's
// to read. Shapes are not checked against each other: MakePlan() does that.
absl::StatusOr<ItemShape> ItemFromProto(const v1::Item& message);

// The inverse: SpecFromProto(ToProto(spec)) equals a valid `spec`. Fields that ItemShape does not
// cover are left alone.
void ToProto(const LossSpec& spec, v1::LossSpec* message);
void ToProto(const ItemShape& item, v1::Item* message);

// "spec.temperature", "item.label.stored", …: fields of the contract that the two functions above
// refuse with UNIMPLEMENTED. For GetCapabilitiesResponse.unimplemented_fields.
std::vector<std::string> UnimplementedFields();

// The field that a status is about: the text before its first ':' when that looks like a path of
// field names ("item.label.dtype"), otherwise "".
std::string FieldOf(const absl::Status& status);

}  // namespace softloss
