// How far each two people agree.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/votes.h"

namespace softloss::annotation {

// The agreement of two people on the items they share.
struct PairFigure {
  std::int32_t a = 0, b = 0;  // a < b
  std::int64_t items = 0;     // that both voted on
  double agreement;           // mean q_a·q_b: of hard votes, the share of equal ones
  // (agreement − e)/(1 − e), e = Σ_c p_ac p_bc, p the shares of classes in the votes of each on
  // shared items. NaN where e is 1, or no marginals are kept.
  double cohen_kappa;
};

// Only pairs that share an item take memory: some 60 bytes and, with marginals, 32·K more.
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

  // As sums, for state files: of each pair, by a, then b, what AddSums adds again. sums is [1 + 2·K]
  // with marginals, else [1]: Σ q_a·q_b, then Σ q_a, then Σ q_b.
  struct PairSums {
    std::int32_t a, b;
    std::int64_t items;
    std::vector<ExactSum> sums;
  };
  std::vector<PairSums> Sums() const;
  // a and b in either order, but not equal; sums of the size of this.
  void AddSums(const PairSums& pair);
  std::size_t sums_per_pair() const { return marginals_ ? 1 + 2 * num_classes_ : 1; }

 private:
  struct Pair {
    std::int64_t items = 0;
    ExactSum agreement;
  };
  std::size_t Slot(std::uint64_t key);
  absl::Span<ExactSum> ClassSums(std::size_t slot, int side);
  double ChanceAgreement(std::size_t slot) const;
  std::vector<std::pair<std::uint64_t, std::size_t>> Sorted() const;

  int num_classes_;
  bool marginals_;
  absl::flat_hash_map<std::uint64_t, std::size_t> slot_;  // (a, b) to a place below
  std::vector<Pair> pair_;
  std::vector<ExactSum> class_sum_;  // [pairs, 2, K]: Σ q_a, Σ q_b
};

}  // namespace softloss::annotation
