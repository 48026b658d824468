// How far people agree: chance-corrected coefficients over all, and the agreement on single items.
//
// An item counts when it is closed: all its votes at once. Items of fewer than two votes pair with
// nothing, and are left out. Votes count alike, whatever their weight. Soft votes are taken as they
// are; every figure of one-hot votes is the figure of hard votes. A figure that is undefined (no
// pairs, or all votes of one class, so that chance alone explains everything) is NaN.
//
// Accumulators are values that merge to the same bits in any order; not to be changed from several
// threads. Callers shard the items.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

struct ItemSums;  // of one item's votes: agreement.cc's own

// How far apart two classes are (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").
enum class AlphaMetric {
  kNominal,   // 0 where equal, else 1
  kOrdinal,   // (Σ_{g=c..k} n_g − (n_c + n_k)/2)², n the votes a class
  kInterval,  // (v_c − v_k)², v the values of the classes: their numbers, unless told
};

// Which classes meet on items: o_ck = Σ_i (Σ_{r≠s} q_rc q_sk)/(m_i − 1). Takes 8·K² bytes.
class CoincidenceMatrix {
 public:
  explicit CoincidenceMatrix(int num_classes);
  void AddItem(const Votes& votes, std::int64_t item);
  CoincidenceMatrix& operator+=(const CoincidenceMatrix& other);  // of as many classes

  // 1 − Do/De, with De from the margins n_c: Σ n_c n_k δ_ck/(n (n − 1)). values is [K], or empty.
  double Alpha(AlphaMetric metric, absl::Span<const double> values = {}) const;

  int num_classes() const { return num_classes_; }
  // o_ck = o_kc.
  double coincidences(int c, int k) const { return cell_[Cell(c, k)].value(); }
  // Σ q_c over votes that pair: whole numbers of hard votes.
  double margin(int c) const { return margin_[c].value(); }

  friend bool operator==(const CoincidenceMatrix&, const CoincidenceMatrix&) = default;
  template <typename Visitor>  // visitor(ExactSum&), in a fixed order: for state files
  void VisitSums(Visitor&& visitor) {
    for (ExactSum& sum : cell_) visitor(sum);
    for (ExactSum& sum : margin_) visitor(sum);
  }

 private:
  friend class AgreementSums;  // has the item's sums already
  void AddItem(const Votes& votes, std::int64_t item, const ItemSums& sums);

  static std::size_t Cell(int c, int k) {
    const std::size_t low = c < k ? c : k, high = c < k ? k : c;
    return high * (high + 1) / 2 + low;
  }

  int num_classes_;
  std::vector<ExactSum> cell_;    // the lower triangle, by rows
  std::vector<ExactSum> margin_;  // [K]
};

// The share of equal pairs among an item's votes, Σ_{r<s} q_r·q_s / (m (m−1)/2). NaN for m < 2.
double ItemAgreement(const Votes& votes, std::int64_t item);
// Of each vote of an item with the others: q_r·Σ_{s≠r} q_s / (m − 1). out is [m]; NaN for m < 2.
void VoteAgreements(const Votes& votes, std::int64_t item, absl::Span<double> out);

struct Agreement {
  std::int64_t items = 0;                               // of two votes and more
  std::int64_t votes = 0;                               // on these
  double alpha_nominal, alpha_ordinal, alpha_interval;  // CoincidenceMatrix::Alpha
  // With δ = ‖q − q'‖²: Do = (1/n) Σ_i (2mΣ‖q‖² − 2‖Σq‖²)/(m − 1),
  // De = (2nΣ‖q‖² − 2‖Σq‖²)/(n (n − 1)). Soft votes that are alike agree fully.
  double alpha_soft;
  // (P − Pe)/(1 − Pe), P the mean ItemAgreement over items, Pe = Σ p_c², p_c the share of a class
  // among all votes. Numbers of votes may differ: an item's agreement is over its own pairs, and
  // every item counts once.
  double fleiss_kappa;
  double percent;  // P, in [0, 1]
};

class AgreementSums {
 public:
  // Beyond so many classes no matrix is kept, and the ordinal and interval alpha are NaN.
  static constexpr int kMaxScaleClasses = 256;

  explicit AgreementSums(int num_classes);
  void AddItem(const Votes& votes, std::int64_t item);
  AgreementSums& operator+=(const AgreementSums& other);  // of as many classes

  // values is [K], the classes on an interval scale; empty is 0, 1, …, K−1.
  Agreement Finish(absl::Span<const double> values = {}) const;

  int num_classes() const { return static_cast<int>(class_sum_.size()); }
  friend bool operator==(const AgreementSums&, const AgreementSums&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    for (ExactSum* sum : {&squares_, &spread_, &item_agreement_, &pairs_}) visitor(*sum);
    for (ExactSum& sum : class_sum_) visitor(sum);
    if (matrix_.has_value()) matrix_->VisitSums(visitor);
  }
  template <typename Visitor>  // visitor(std::int64_t&)
  void VisitCounts(Visitor&& visitor) {
    visitor(items_);
    visitor(votes_);
  }

 private:
  std::int64_t items_ = 0, votes_ = 0;
  ExactSum squares_;                 // Σ ‖q‖²
  ExactSum spread_;                  // Σ_i Σ_{r≠s} ‖q_r − q_s‖²/(m − 1)
  ExactSum item_agreement_;          // Σ_i ItemAgreement
  ExactSum pairs_;                   // Σ_i Σ_{r≠s} q_r·q_s/(m − 1)
  std::vector<ExactSum> class_sum_;  // [K] Σ q
  std::optional<CoincidenceMatrix> matrix_;
};

}  // namespace softloss::annotation
