// The votes of a campaign: who said what of which item.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace softloss::annotation {

// Columns of equal length n, a row a vote, in any order. Items and annotators are dense numbers; the
// caller numbers them by their sorted names, so that the same votes are the same bits whoever sent
// them in what order.
struct VoteColumns {
  int num_classes = 0;  // K ≥ 2
  std::int64_t num_items = 0;
  int num_annotators = 0;
  absl::Span<const std::int64_t> item;       // [n], 0 ≤ item < num_items
  absl::Span<const std::int32_t> annotator;  // [n], 0 ≤ annotator < num_annotators
  absl::Span<const std::int32_t> label;      // [n] class ids; or empty, and then
  absl::Span<const double> probabilities;    // [n, K] soft votes, finite, ≥ 0, a row sums to 1
  absl::Span<const double> weight;           // [n] > 0 and finite; empty is 1 everywhere
  absl::Span<const double> time;             // [n] seconds, finite; empty is unknown
};

// Sums of probabilities may differ from 1 by this much; rows are then divided by their sum.
inline constexpr double kProbabilityTolerance = 1e-3;

// Votes in canonical order: by item, then by annotator, of whom an item has at most one vote.
// A value; const methods are thread-safe.
class Votes {
 public:
  Votes() = default;

  // INVALID_ARGUMENT names the column, the row, the rule and the value: lengths that differ, numbers
  // out of range, probabilities that are negative, not finite or do not sum to 1 within
  // kProbabilityTolerance, a weight that is not positive, a second vote of an annotator on an item.
  static absl::StatusOr<Votes> Create(const VoteColumns& columns);

  int num_classes() const { return num_classes_; }
  std::int64_t num_items() const { return static_cast<std::int64_t>(begin_.size()) - 1; }
  int num_annotators() const { return num_annotators_; }
  std::int64_t size() const { return static_cast<std::int64_t>(annotator_.size()); }

  // The votes of item i are [item_begin(i), item_begin(i + 1)). An item may have none.
  std::int64_t item_begin(std::int64_t item) const { return begin_[item]; }
  std::int32_t annotator(std::int64_t vote) const { return annotator_[vote]; }

  // Class ids, one each; of soft votes the likeliest class, the lowest of equals.
  std::int32_t label(std::int64_t vote) const { return label_[vote]; }
  bool soft() const { return !probability_.empty(); }
  // [K] of a soft vote. Only where soft().
  absl::Span<const double> probabilities(std::int64_t vote) const {
    return absl::MakeConstSpan(probability_).subspan(vote * num_classes_, num_classes_);
  }
  // q[k] of either kind.
  double probability(std::int64_t vote, int k) const {
    return soft() ? probability_[vote * num_classes_ + k] : (label_[vote] == k ? 1.0 : 0.0);
  }
  double weight(std::int64_t vote) const { return weight_.empty() ? 1.0 : weight_[vote]; }
  bool weighted() const { return !weight_.empty(); }
  bool has_time() const { return !time_.empty(); }
  double time(std::int64_t vote) const { return time_[vote]; }
  // The row of the columns given to Create that this vote was.
  std::int64_t row(std::int64_t vote) const { return row_.empty() ? vote : row_[vote]; }

 private:
  int num_classes_ = 0;
  int num_annotators_ = 0;
  std::vector<std::int64_t> begin_ = {0};  // [items + 1]
  std::vector<std::int32_t> annotator_, label_;
  std::vector<double> probability_, weight_, time_;
  std::vector<std::int64_t> row_;  // empty where the columns were in canonical order already
};

// The votes by annotator, for sums an annotator: positions of each one's votes, ascending, so that
// they are in the order of items.
class AnnotatorIndex {
 public:
  explicit AnnotatorIndex(const Votes& votes);
  // Positions in Votes.
  absl::Span<const std::uint32_t> of(int annotator) const {
    return absl::MakeConstSpan(vote_).subspan(begin_[annotator],
                                              begin_[annotator + 1] - begin_[annotator]);
  }

 private:
  std::vector<std::int64_t> begin_;
  std::vector<std::uint32_t> vote_;
};

// A model's predictions, or gold answers: for some items a distribution over the classes.
struct Distributions {
  std::vector<double> probability;    // [items, K]; rows of items without one are zeros
  std::vector<std::uint8_t> present;  // [items]
};

}  // namespace softloss::annotation
