// The sparse labels of a leaf: read and checked once, expanded where dense labels are wanted.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/plan.h"

namespace softloss::cpu {

// T is the type of computation.
template <typename T>
class SparseLabels {
 public:
  // For keys without sparse labels nothing may be called.
  SparseLabels(const ScoreKey& key, const Segment& segment, Scratch& scratch)
      : key_(key),
        segment_(segment),
        scratch_(scratch),
        k_(static_cast<std::size_t>(key.label.k)) {}

  // Reads rows [row, row + n), of which Check or Skip is then called for each.
  void Read(std::int64_t row, std::size_t n);
  // INVALID_ARGUMENT for what is wrong with row `i` of them.
  absl::Status Check(std::size_t i);
  // The row's labels are all 0.
  void Skip(std::size_t i);

  // Elements [begin, begin + n) of [rows, classes], of rows that were read: the dense labels that stand
  // there. (With the tail kBucket, the values alone.)
  void Expand(std::int64_t begin, std::size_t n, T* to) const;

  // Row `i` of those read: its classes and its values [k].
  const std::int64_t* ids(std::size_t i) const { return ids_ + i * k_; }
  const T* values(std::size_t i) const { return values_ + i * k_; }

 private:
  const ScoreKey& key_;
  const Segment& segment_;
  Scratch& scratch_;
  const std::size_t k_;
  std::int64_t first_ = 0;
  const std::byte* raw_ids_ = nullptr;
  std::int64_t* ids_ = nullptr;
  T* values_ = nullptr;
  T* tail_ = nullptr;  // of a row's other classes
};

}  // namespace softloss::cpu
