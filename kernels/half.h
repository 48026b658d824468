// IEEE binary16 and bfloat16, converted exactly: round to nearest, ties to even, subnormals kept,
// overflow to infinity, NaN to a quiet NaN that keeps its sign and leading payload bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace softloss {

constexpr float BF16ToFloat(std::uint16_t h) {
  return std::bit_cast<float>(std::uint32_t{h} << 16);
}

constexpr float F16ToFloat(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1F;
  const std::uint32_t mantissa = h & 0x3FF;
  if (exponent == 0x1F) {
    return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  }
  if (exponent == 0) {  // ±mantissa·2^-24, exact in fp32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

constexpr std::uint16_t FloatToBF16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

constexpr std::uint16_t FloatToF16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t h = 0;
  if (magnitude > 0x7F800000u) {  // NaN
    h = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
  } else if (magnitude >= 0x477FF000u) {  // ≥ 65520 rounds to infinity
    h = 0x7C00u;
  } else if (magnitude >= 0x38800000u) {  // normal: ≥ 2^-14
    const std::uint32_t rebased = magnitude - (112u << 23);
    h = (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13;
  } else if (magnitude >= 0x33000000u) {  // subnormal: ≥ 2^-25
    const std::uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    const std::uint32_t shift = 126 - (magnitude >> 23);  // 14 … 24
    const std::uint32_t half = (1u << (shift - 1)) - 1;
    h = (mantissa + half + ((mantissa >> shift) & 1)) >> shift;
  }
  return static_cast<std::uint16_t>(sign | h);
}

namespace half_internal {

// Rounds once from any binary floating type to 1 sign bit, `kExponent` and `kMantissa` bits.
template <int kExponent, int kMantissa, typename T>
std::uint16_t Encode(T value) {
  constexpr int kBias = (1 << (kExponent - 1)) - 1;
  constexpr std::uint32_t kInfinity = ((1u << kExponent) - 1) << kMantissa;
  const std::uint32_t sign = std::signbit(value) ? 0x8000u : 0;
  std::uint32_t h = 0;
  if (std::isnan(value)) {
    h = kInfinity | (1u << (kMantissa - 1));
  } else if (std::isinf(value)) {
    h = kInfinity;
  } else if (value != 0) {
    int exponent = std::ilogb(value);
    if (exponent < 1 - kBias) exponent = 1 - kBias;
    // The mantissa with its hidden bit as an integer; scaling by a power of two is exact, so
    // nearbyint is the one rounding. A carry out of it runs into the exponent, as it should.
    const T scaled = std::nearbyint(std::scalbn(std::fabs(value), kMantissa - exponent));
    if (exponent > kBias) {
      h = kInfinity;
    } else {
      const auto mantissa = static_cast<std::uint32_t>(scaled);
      h = static_cast<std::uint32_t>(exponent + kBias - 1) * (1u << kMantissa) + mantissa;
      if (h > kInfinity) h = kInfinity;
    }
  }
  return static_cast<std::uint16_t>(sign | h);
}

}  // namespace half_internal

// From double or long double in one rounding. (By way of float there would be two.)
template <typename T>
std::uint16_t ToF16(T value) {
  return half_internal::Encode<5, 10>(value);
}
template <typename T>
std::uint16_t ToBF16(T value) {
  return half_internal::Encode<8, 7>(value);
}

}  // namespace softloss
