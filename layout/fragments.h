// Memory in pieces: a tensor's bytes as they lie in received slices, or as the lines of a strided
// tile in a caller's array. Non-owning.
#pragma once

#include <cstddef>

#include "absl/types/span.h"

namespace softloss {

struct Fragment {
  const std::byte* data = nullptr;  // any alignment; elements may straddle fragments
  std::size_t size = 0;             // bytes, not 0
};

struct MutableFragment {
  std::byte* data = nullptr;
  std::size_t size = 0;
};

using Fragments = absl::Span<const Fragment>;
using MutableFragments = absl::Span<const MutableFragment>;

template <typename F>
std::size_t TotalSize(absl::Span<const F> fragments) {
  std::size_t size = 0;
  for (const F& f : fragments) size += f.size;
  return size;
}

}  // namespace softloss
