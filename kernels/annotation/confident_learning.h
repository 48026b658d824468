// Which labels a model is sure are wrong: confident learning (Northcutt, Jiang and Chuang 2021).
//
// Rows and labels are as in row_scores.h; predictions should be out of sample. Thresholds and joints
// are sums over items, values that merge to the same bits in any order.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/row_scores.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// How sure the model is of a class on items that have it: t_k = Σ q_k P_k / Σ q_k.
class ConfidentThresholds {
 public:
  static constexpr double kFloor = 2e-6;
  static constexpr double kOfNoLabels =
      2;  // of a class without labels: no prediction is sure of it

  explicit ConfidentThresholds(int num_classes);
  void Add(std::int32_t label, Row p);
  void Add(Row q, Row p);
  ConfidentThresholds& operator+=(const ConfidentThresholds& other);  // of as many classes

  std::vector<double> Finish() const;  // [K], ≥ kFloor

  int num_classes() const { return static_cast<int>(labels_.size()); }
  // Σ q_k: of hard labels, their numbers.
  double labels(int k) const { return labels_[k].value(); }
  friend bool operator==(const ConfidentThresholds&, const ConfidentThresholds&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum& sum : labels_) visitor(sum);
    for (ExactSum& sum : confidence_) visitor(sum);
  }

 private:
  std::vector<ExactSum> labels_, confidence_;  // [K] Σ q_k and Σ q_k P_k
};

// The class that a prediction is sure of: the only k with P_k ≥ t_k − 1e-6; of several such the
// likeliest class of all; −1 where there is none.
std::int32_t ConfidentClass(Row p, Row thresholds);

// How often items labelled c are surely of class k, [K, K] by c; takes 16·K² bytes.
class ConfidentJoint {
 public:
  explicit ConfidentJoint(std::vector<double> thresholds);
  void Add(std::int32_t label, Row p);
  void Add(Row q, Row p);
  ConfidentJoint& operator+=(const ConfidentJoint& other);  // of the same thresholds

  // Counts as they are, but at least 1 on the diagonal.
  std::vector<double> Counts() const;
  // Every row scaled to its number of labels, Σ q_c.
  std::vector<double> Calibrated() const;

  friend bool operator==(const ConfidentJoint&, const ConfidentJoint&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum& sum : cell_) visitor(sum);
    for (ExactSum& sum : labels_) visitor(sum);
  }

 private:
  std::vector<double> thresholds_;
  std::vector<ExactSum> cell_;    // [K, K]
  std::vector<ExactSum> labels_;  // [K]
};

// Numbers of a row rounded to whole ones with the same (rounded) sum: those whose rounding went
// furthest the wrong way give way.
std::vector<std::int64_t> RoundKeepingSum(absl::Span<const double> row);

// What a joint count of labels (rows) and true classes (columns), [K, K], says of the labels.
struct NoiseEstimates {
  std::vector<double> joint;        // [K, K] shares of all
  std::vector<double> label_noise;  // [K] share of the items so labelled that are of other classes
  std::vector<double> inverse_noise;  // [K] share of the items of the class labelled otherwise
  double right;                       // share of the joint on its diagonal
};
NoiseEstimates EstimateNoise(absl::Span<const double> joint_counts, int num_classes);

enum class IssueFilter : std::uint8_t {
  kPruneByNoiseRate,  // of each cell of the joint, as many as it counts, by largest P_k − P_label
  kPruneByClass,      // of each class, as many as the joint counts wrong, by lowest P_label
  kBoth,              // what both of these find
  kConfidentLearning,  // whoever is counted off the diagonal
  kPredictedNeqGiven,  // the likeliest class is another
  kLowSelfConfidence,  // as many as kConfidentLearning finds, by lowest score (row_scores.h)
  kLowNormalizedMargin,
};

struct IssueOptions {
  IssueFilter filter = IssueFilter::kPruneByNoiseRate;
  double frac_noise = 1;        // share of the counted noise to take, 0 to 1; the first three only
  int min_items_per_class = 1;  // never leave a class fewer, ≥ 0; the first three only
};

struct LabelIssues {
  std::vector<std::uint8_t> issue;         // [n] 1 or 0
  std::vector<double> thresholds;          // [K]
  std::vector<std::int64_t> joint_counts;  // [K, K], calibrated and rounded: rows sum to the labels
};

// label is [n], probabilities [n, K] by rows. Items whose likeliest class is the label are no issues,
// whatever the filter but the last two. Of equal scores the earlier item comes first. Time and memory
// are linear in n·K (and K²). INVALID_ARGUMENT: fewer than 2 classes, sizes that do not fit, a label
// out of range, an option out of its range.
absl::StatusOr<LabelIssues> FindLabelIssues(int num_classes, absl::Span<const std::int32_t> label,
                                            absl::Span<const double> probabilities,
                                            const IssueOptions& options, Executor& executor);

}  // namespace softloss::annotation
