// Sparse labels in the reference: as the dense label that they stand for, or with the other classes in
// a bucket.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "kernels/reference.h"

namespace softloss::reference {

// k classes, which differ, and their values as they are scored (DecodeLabels).
struct SparseLabel {
  std::vector<std::int64_t> ids;
  std::vector<Real> values;
};

// The dense label [key.classes] of any tail but kBucket, rounded to the type of computation.
std::vector<Real> Densified(const ScoreKey& key, const SparseLabel& label);

// A row whose classes outside the label are one: [k + 1] with that one last, or [k] where there are
// none. Its probability is the sum of theirs, its label the rest of the mass.
struct Bucketed {
  std::vector<Real> x, t;
};

// Scores such a row. The tally is of what it holds.
Row ScoreBucketed(const ScoreKey& key, const LossSpec& spec, const Bucketed& row, Real row_weight);

// Scores a row of predictions `x` [classes] against a label of any tail.
Row ScoreSparse(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
                const SparseLabel& label, Real row_weight);

}  // namespace softloss::reference
