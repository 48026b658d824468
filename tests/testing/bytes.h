// Tensors' bytes: encoding numbers, and laying bytes out in awkward pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "layout/dtype.h"
#include "layout/fragments.h"
#include "tests/testing/random.h"

namespace softloss::testing {

using Bytes = std::vector<std::byte>;

// Values to the dtype, rounded to nearest even once; u8 and integers take whole numbers.
Bytes Encode(DType dtype, absl::Span<const double> values);
// Exact.
std::vector<double> Decode(DType dtype, absl::Span<const std::byte> bytes);

// How to lay a buffer out.
struct Pieces {
  std::size_t max_size = 0;    // 0 = one piece; otherwise pieces of 1 … max_size bytes
  std::size_t misalign = 0;    // bytes from a 64-byte boundary at which pieces start
  std::uint8_t poison = 0xA5;  // what surrounds each piece
  std::uint64_t seed = 1;
};

// A buffer in pieces, each in memory of its own, surrounded by poison.
class PoisonedBuffer {
 public:
  PoisonedBuffer(std::size_t size, const Pieces& pieces);
  PoisonedBuffer(absl::Span<const std::byte> contents, const Pieces& pieces);

  Fragments fragments() const { return const_fragments_; }
  MutableFragments mutable_fragments() { return fragments_; }
  Bytes Gathered() const;
  // Whether nobody wrote outside the pieces.
  bool PoisonIsIntact() const;

 private:
  struct Block {
    Bytes memory;
    std::size_t begin;
    std::size_t size;
  };
  std::uint8_t poison_;
  std::vector<Block> blocks_;
  std::vector<Fragment> const_fragments_;
  std::vector<MutableFragment> fragments_;
};

}  // namespace softloss::testing
