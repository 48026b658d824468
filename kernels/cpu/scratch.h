// Working memory of a thread. It grows to what the largest rows need and is then reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/cpu/operand.h"

namespace softloss::cpu {

// Aligned for any SIMD width. Growing loses the contents.
class Buffer {
 public:
  template <typename T>
  T* Get(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    if (bytes > capacity_) {
      memory_ = hwy::AllocateAligned<std::byte>(bytes);
      capacity_ = bytes;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  hwy::AlignedFreeUniquePtr<std::byte[]> memory_;
  std::size_t capacity_ = 0;
};

struct Scratch {
  // Operands of the segment that the thread works on.
  Source prediction, label, label_ids, mask, row_weight;
  Sink gradient, row_loss;

  Buffer prediction_bytes, label_bytes, output_bytes;  // as on the wire
  Buffer decoded, x, t, g, spare, loss;                // in the compute type
  Buffer weight, pos_weight, class_weight;             // in the compute type
  Buffer exact, exact_decoded;                         // for the scalar path
  Buffer rows, ids;                                    // one entry a row of a leaf
  Buffer label_id_bytes, sparse_ids, sparse_values, sparse_tail;
  // A class each: the number of the sparse row that last had it. Rows are numbered as they come.
  std::vector<std::uint32_t> seen;
  std::uint32_t sparse_rows = 0;
};

}  // namespace softloss::cpu
