// The rules about what rows hold that every backend must apply alike.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/plan.h"

namespace softloss {

// "<backend>-<target>-<version>": "cpu-avx2-0.1.0".
std::string NumericsId(std::string_view backend, std::string_view target);

// A dense label row is unnormalised when |S - 1| exceeds this: 1e-4, plus half a step of the label
// dtype a class. The steps are what rounding a probability may lose: 2^-24 for f32, 2^-11 for f16,
// 2^-8 for bf16, 2^-53 for f64, 1/255 for u8/255; ROW_SUM divides in fp32: 2^-24. Of a sparse label only
// the k values were rounded.
double NormalizationTolerance(const LabelFormat& label, std::int64_t classes);

// A row weight must be finite and not negative.
inline bool IsRowWeight(float weight) { return weight >= 0 && std::isfinite(weight); }

// INVALID_ARGUMENT for `row` of the segment. Rows are named as the item counts them.
absl::Status BadRowWeight(const Segment& segment, std::int64_t row, float weight);
absl::Status BadClassId(const Segment& segment, std::int64_t row, std::int64_t id,
                        std::int64_t classes);
// For a sparse label: an id out of range, or one that the row has twice.
absl::Status BadSparseId(const Segment& segment, std::int64_t row, std::int64_t id,
                         std::int64_t classes);

// What a sparse label leaves to the classes outside it, given the sum of its values.
inline double RestOfMass(double sum) { return sum < 1 ? 1 - sum : 0; }

// UNIMPLEMENTED, with the backend's name, unless it serves the loss, and the general options and sparse
// labels where the key has some.
absl::Status CheckServed(std::string_view backend, const ScoreKey& key, bool serves_loss,
                         bool serves_general = false, bool serves_sparse = false);

}  // namespace softloss
