// Blocks of items: what a parallel loop over items runs over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// At most `count` runs of neighbouring items, of about as much work each. They depend on the votes and
// `count` only, so that sums which are made a block, and added in the blocks' order, do not depend on
// how many threads there are.
class ItemBlocks {
 public:
  ItemBlocks(const Votes& votes, int count) : begin_(count + 1) {
    const std::int64_t items = votes.num_items();
    const std::int64_t work = votes.size() + items;
    std::int64_t item = 0;
    for (int b = 0; b <= count; ++b) {
      const auto target = static_cast<std::int64_t>(static_cast<double>(work) / count * b);
      std::int64_t end = items;  // the first item at or beyond the target, by bisection
      while (item < end && b < count) {
        const std::int64_t middle = item + (end - item) / 2;
        if (votes.item_begin(middle) + middle < target) {
          item = middle + 1;
        } else {
          end = middle;
        }
      }
      begin_[b] = item = end;
    }
  }

  int size() const { return static_cast<int>(begin_.size()) - 1; }
  std::int64_t begin(int block) const { return begin_[block]; }
  std::int64_t end(int block) const { return begin_[block + 1]; }

 private:
  std::vector<std::int64_t> begin_;
};

inline constexpr int kItemBlocks = 64;

// Runs body(item) for all items, in parallel.
inline void ForEachItem(const Votes& votes, Executor& executor,
                        absl::FunctionRef<void(std::int64_t)> body) {
  const ItemBlocks blocks(votes, kItemBlocks);
  executor.ParallelFor(blocks.size(), [&](std::int64_t b) {
    const int block = static_cast<int>(b);
    for (std::int64_t i = blocks.begin(block); i < blocks.end(block); ++i) body(i);
  });
}

}  // namespace softloss::annotation
