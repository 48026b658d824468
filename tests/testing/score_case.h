// An item to score, and scoring it in any way that must not matter.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/engine.h"
#include "kernels/plan.h"
#include "tests/testing/bytes.h"

namespace softloss::testing {

// Bytes are in the tensors' own order.
struct ScoreCase {
  ItemShape item;
  LossSpec spec;
  ItemPlan plan;
  Bytes prediction, label, mask, row_weight, label_ids;

  std::string Describe() const;
  EngineInputs inputs() const;
};

enum class LabelStyle {
  kNormalized,  // rows sum to 1 (elements in [0, 1] for sigmoid losses)
  kUniform,     // in [0, 1], of any sum
  kOneHot,
  kWild,  // outside [0, 1] too
};

struct RandomStyle {
  LabelStyle labels = LabelStyle::kNormalized;
  double logit_deviation = 4;
  double mask_out = 0.2;     // if the item has a mask
  double zero_weight = 0.1;  // if it has row weights
};

// Random contents, with class ids among the classes, those of a sparse row all different. The item and the spec must be valid.
ScoreCase RandomCase(const ItemShape& item, const LossSpec& spec, const RandomStyle& style,
                     Random& random);

// The same from values in row order, [rows, classes]: what edge cases are written as. `labels` are
// stored numbers (or class ids, [rows], or of sparse labels the values [rows, k], of the classes
// `label_ids`).
ScoreCase CaseOf(const ItemShape& item, const LossSpec& spec, absl::Span<const double> logits,
                 absl::Span<const double> labels, absl::Span<const double> mask = {},
                 absl::Span<const double> row_weight = {}, absl::Span<const double> label_ids = {});

// Row order [rows, classes] to and from the tensor's order.
std::vector<double> ToTensorOrder(const Geometry& g, absl::Span<const double> rows);
std::vector<double> ToRowOrder(const Geometry& g, absl::Span<const double> tensor);

struct ScoreOutcome {
  absl::Status status;
  Bytes gradient, row_loss;  // in the tensors' order
  std::vector<LeafSum> leaves;
  Tally tally;

  // Every bit, whatever the values are (NaN included).
  std::string BitDifference(const ScoreOutcome& other) const;
};

struct ScoreLayout {
  std::int64_t chunk_leaves = 0;  // 0 = one chunk
  Pieces pieces;
};

// Scores the cases, which share a key, as one batch of all their chunks; checks that nothing outside
// the outputs was written (a gtest failure otherwise).
std::vector<ScoreOutcome> ScoreBatch(Backend& backend, Executor& executor,
                                     absl::Span<const ScoreCase* const> cases,
                                     const ScoreLayout& layout);

ScoreOutcome ScoreAlone(Backend& backend, const ScoreCase& c, const ScoreLayout& layout = {});

}  // namespace softloss::testing
