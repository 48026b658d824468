// How far people agree: chance-corrected coefficients over all, the agreement of pairs of people,
// and of single items.
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
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

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

  int num_classes() const { return matrix_.num_classes(); }
  friend bool operator==(const AgreementSums&, const AgreementSums&) = default;
  template <typename Visitor>
  void VisitSums(Visitor&& visitor) {
    matrix_.VisitSums(visitor);
    for (ExactSum* sum : {&squares_, &spread_, &item_agreement_, &pairs_}) visitor(*sum);
  }
  template <typename Visitor>  // visitor(std::int64_t&)
  void VisitCounts(Visitor&& visitor) {
    visitor(items_);
    visitor(votes_);
  }

 private:
  CoincidenceMatrix matrix_;
  std::int64_t items_ = 0, votes_ = 0;
  ExactSum squares_;         // Σ ‖q‖²
  ExactSum spread_;          // Σ_i Σ_{r≠s} ‖q_r − q_s‖²/(m − 1)
  ExactSum item_agreement_;  // Σ_i ItemAgreement
  ExactSum pairs_;           // Σ_i Σ_{r≠s} q_r·q_s/(m − 1)
};

// The agreement of two people on the items they share.
struct PairFigure {
  std::int32_t a = 0, b = 0;  // a < b
  std::int64_t items = 0;     // that both voted on
  double agreement;           // mean q_a·q_b: of hard votes, the share of equal ones
  // (agreement − e)/(1 − e), e = Σ_c p_ac p_bc, p the shares of classes in the votes of each on
  // shared items. NaN where e is 1, or no marginals are kept.
  double cohen_kappa;
};

// Only pairs that share an item take memory: 24 bytes and, with marginals, 32·K more.
class PairAgreement {
 public:
  explicit PairAgreement(int num_classes, bool marginals = true);
  // The model's row, if given, [K], is one more voter: number votes.num_annotators().
  void AddItem(const Votes& votes, std::int64_t item, absl::Span<const double> model = {});
  // Of as many classes, of the same numbers for the same people, and marginals in both or neither.
  PairAgreement& operator+=(const PairAgreement& other);

  std::vector<PairFigure> Pairs() const;  // by a, then b
  // One κ of all pairs, (Σ n(po − pe))/(Σ n(1 − pe)), n a pair's items (de Vries et al. 2008):
  // Cohen's where there is one pair, and not upset by pairs of few items. NaN without marginals.
  double PooledKappa() const;

 private:
  struct Pair {
    std::int64_t items = 0;
    ExactSum agreement;
  };
  void AddPair(std::int32_t a, absl::Span<const double> q_a, std::int32_t b,
               absl::Span<const double> q_b);
  std::size_t Slot(std::int32_t a, std::int32_t b);
  double ChanceAgreement(std::size_t slot) const;
  std::vector<std::pair<std::uint64_t, std::size_t>> Sorted() const;

  int num_classes_;
  bool marginals_;
  absl::flat_hash_map<std::uint64_t, std::size_t> slot_;  // (a, b) to a place in the following
  std::vector<Pair> pair_;
  std::vector<ExactSum> class_sum_;  // [pairs, 2, K]: Σ q_a, Σ q_b
};

}  // namespace softloss::annotation
