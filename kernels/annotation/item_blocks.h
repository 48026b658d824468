// Blocks of items: what a parallel loop over items runs over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
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

// As many blocks as sums of `cells` numbers may be kept for: together no more than a number a vote (or
// 8 MiB), so that memory stays linear in the votes however many the annotators and classes.
inline int BlocksForSums(const Votes& votes, std::int64_t cells) {
  const std::int64_t room = std::max<std::int64_t>(votes.size(), 1 << 20);
  return static_cast<int>(
      std::clamp<std::int64_t>(room / std::max<std::int64_t>(cells, 1), 1, kItemBlocks));
}

// [cells] Sums over all items: add(item, sums) adds what an item contributes.
inline std::vector<double> SumOverItems(const Votes& votes, Executor& executor, std::int64_t cells,
                                        absl::FunctionRef<void(std::int64_t, double*)> add) {
  const ItemBlocks blocks(votes, BlocksForSums(votes, cells));
  std::vector<std::vector<double>> partial(blocks.size());
  executor.ParallelFor(blocks.size(), [&](std::int64_t b) {
    const int block = static_cast<int>(b);
    partial[b].assign(cells, 0.0);
    for (std::int64_t i = blocks.begin(block); i < blocks.end(block); ++i)
      add(i, partial[b].data());
  });
  for (int b = 1; b < blocks.size(); ++b) {
    for (std::int64_t c = 0; c < cells; ++c) partial[0][c] += partial[b][c];
  }
  return std::move(partial[0]);
}

}  // namespace softloss::annotation
