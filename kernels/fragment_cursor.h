// Sequential reading and writing of memory that lies in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "layout/fragments.h"

namespace softloss {

// Walks fragments from front to back. Copying a cursor remembers a position. What is asked for must
// be there: callers have checked sizes (CheckChunk).
template <typename F>
class BasicFragmentCursor {
 public:
  explicit BasicFragmentCursor(absl::Span<const F> fragments)
      : next_(fragments.begin()), end_(fragments.end()) {
    Advance();
  }

  // Bytes in one piece at the current position; 0 at the end.
  std::size_t contiguous() const { return left_; }

  // The next `size` bytes in place, and moves past them; null, without moving, if they are cut.
  auto TakeContiguous(std::size_t size) -> decltype(F::data) {
    if (size > left_) return nullptr;
    auto* data = data_;
    Consume(size);
    return data;
  }

  void Skip(std::size_t size) {
    while (size > 0) {
      const std::size_t n = std::min(size, left_);
      Consume(n);
      size -= n;
    }
  }

 protected:
  void Consume(std::size_t size) {
    data_ += size;
    left_ -= size;
    if (left_ == 0) Advance();
  }

  decltype(F::data) data_ = nullptr;
  std::size_t left_ = 0;

 private:
  void Advance() {
    while (left_ == 0 && next_ != end_) {
      data_ = next_->data;
      left_ = next_->size;
      ++next_;
    }
  }

  const F* next_;
  const F* end_;
};

class FragmentCursor : public BasicFragmentCursor<Fragment> {
 public:
  using BasicFragmentCursor::BasicFragmentCursor;

  // Copies the next `size` bytes.
  void Copy(std::size_t size, std::byte* to) {
    while (size > 0) {
      const std::size_t n = std::min(size, left_);
      std::memcpy(to, data_, n);
      Consume(n);
      to += n;
      size -= n;
    }
  }

  // The next `size` bytes: in place if they are in one piece, else gathered into `scratch`, which
  // holds at least `size` bytes.
  const std::byte* Read(std::size_t size, std::byte* scratch) {
    if (const std::byte* in_place = TakeContiguous(size)) return in_place;
    Copy(size, scratch);
    return scratch;
  }
};

class FragmentWriter : public BasicFragmentCursor<MutableFragment> {
 public:
  using BasicFragmentCursor::BasicFragmentCursor;

  void Write(const void* from, std::size_t size) {
    const auto* bytes = static_cast<const std::byte*>(from);
    while (size > 0) {
      const std::size_t n = std::min(size, left_);
      std::memcpy(data_, bytes, n);
      Consume(n);
      bytes += n;
      size -= n;
    }
  }
};

}  // namespace softloss
