// Random access to a tensor's bytes that lie in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/stream.h"
#include "layout/fragments.h"

namespace softloss::cpu {

// Finds byte ranges in fragments. Neighbouring look-ups are fast. Not thread-safe.
template <typename F>
class Operand {
 public:
  // Reuses its memory; `fragments` must outlive the uses.
  void Reset(absl::Span<const F> fragments) {
    fragments_ = fragments;
    current_ = 0;
    ends_.clear();
    std::int64_t end = 0;
    for (const F& f : fragments) ends_.push_back(end += static_cast<std::int64_t>(f.size));
  }

  bool empty() const { return fragments_.empty(); }

  // Bytes [begin, begin + size), size > 0, if one fragment holds them, else null.
  auto InPlace(std::int64_t begin, std::size_t size) -> decltype(F::data) {
    Find(begin);
    if (begin + static_cast<std::int64_t>(size) > ends_[current_]) return nullptr;
    return fragments_[current_].data + (begin - Start());
  }

 protected:
  // Calls visit(piece, offset, bytes) for the pieces of [begin, begin + size).
  template <typename Visit>
  void ForPieces(std::int64_t begin, std::size_t size, Visit visit) {
    for (std::size_t done = 0; done < size;) {
      const std::int64_t at = begin + static_cast<std::int64_t>(done);
      Find(at);
      const std::size_t n = std::min(size - done, static_cast<std::size_t>(ends_[current_] - at));
      visit(fragments_[current_].data + (at - Start()), done, n);
      done += n;
    }
  }

 private:
  std::int64_t Start() const { return current_ == 0 ? 0 : ends_[current_ - 1]; }

  void Find(std::int64_t position) {
    if (position >= Start()) {
      if (position < ends_[current_]) return;
      if (position < ends_[current_ + 1]) {
        ++current_;
        return;
      }
    }
    current_ = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), position) -
                                        ends_.begin());
  }

  absl::Span<const F> fragments_;
  std::vector<std::int64_t> ends_;
  std::size_t current_ = 0;
};

class Source : public Operand<Fragment> {
 public:
  // In place, or copied to `buffer`.
  const std::byte* Read(std::int64_t begin, std::size_t size, std::byte* buffer) {
    if (const std::byte* in_place = InPlace(begin, size)) return in_place;
    ForPieces(begin, size, [&](const std::byte* piece, std::size_t offset, std::size_t n) {
      std::memcpy(buffer + offset, piece, n);
    });
    return buffer;
  }
};

class Sink : public Operand<MutableFragment> {
 public:
  // Whether writing goes past the caches: for results that are larger than they are.
  bool streams = false;

  void Write(std::int64_t begin, const void* from, std::size_t size) {
    ForPieces(begin, size, [&](std::byte* piece, std::size_t offset, std::size_t n) {
      const std::byte* part = static_cast<const std::byte*>(from) + offset;
      if (streams) {
        StreamCopy(part, piece, n);
      } else {
        std::memcpy(piece, part, n);
      }
    });
  }
};

}  // namespace softloss::cpu
