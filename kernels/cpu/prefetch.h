// Bringing what is needed next into the caches, evenly over the work on what is there.
#pragma once

#include <cstddef>

#include "hwy/cache_control.h"
#include "layout/fragments.h"

namespace softloss::cpu {

// Asks for `lines` cache lines' worth of elements of the compute type, `element` and on, of memory that
// holds them as `size` bytes each: of narrow types some lines are asked for twice. Always inlined, and
// without a test: GCC 12 takes a lambda that does nothing else for one without effect, and drops it.
template <typename T>
HWY_INLINE void PrefetchElements(const std::byte* from, std::size_t element, std::size_t size,
                                 std::size_t lines) {
  constexpr std::size_t kElements = 64 / sizeof(T);
  for (std::size_t i = 0; i < lines; ++i) hwy::Prefetch(from + (element + i * kElements) * size);
}

// Walks pieces of memory, cache line by cache line. They are a hint: nothing is read.
class Prefetcher {
 public:
  explicit Prefetcher(Fragments ahead) : next_(ahead.begin()), end_(ahead.end()) { Advance(); }

  // How many lines there are.
  static std::size_t Count(Fragments ahead) {
    std::size_t lines = 0;
    for (const Fragment& f : ahead) lines += (f.size + kLine - 1) / kLine;
    return lines;
  }

  void Fetch(std::size_t lines) {
    for (; lines > 0 && at_ != nullptr; --lines) {
      hwy::Prefetch(at_);
      at_ += kLine;
      if (at_ >= stop_) Advance();
    }
  }

 private:
  static constexpr std::size_t kLine = 64;

  void Advance() {
    if (next_ == end_) {
      at_ = nullptr;
      return;
    }
    at_ = next_->data;
    stop_ = at_ + next_->size;
    ++next_;
  }

  const Fragment* next_;
  const Fragment* end_;
  const std::byte* at_ = nullptr;
  const std::byte* stop_ = nullptr;
};

}  // namespace softloss::cpu
