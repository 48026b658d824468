// The sums over pixels that are worth vectors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softloss::annotation {

struct MaskSums {
  std::uint64_t sum = 0, squares = 0, pixel_squares = 0;  // pixels.h: PixelSums
};
// value is [pixels, readers].
MaskSums SumMasks(const std::uint8_t* value, std::size_t pixels, int readers);

// Σ |a − b| of n values each.
std::uint64_t SumDifferences(const std::uint8_t* a, const std::uint8_t* b, std::size_t n);

}  // namespace softloss::annotation
