#include "kernels/half.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace softloss {
namespace {

// The value of a 16-bit pattern by IEEE 754's definition.
long double ValueOf(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const long double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa ? std::numeric_limits<long double>::quiet_NaN()
                    : sign * std::numeric_limits<long double>::infinity();
  }
  const long double significand =
      std::ldexp(static_cast<long double>(mantissa), -mantissa_bits) + (exponent ? 1 : 0);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias);
}

struct Format {
  const char* name;
  int exponent_bits, mantissa_bits;
  float (*to_float)(std::uint16_t);
  std::uint16_t (*from_float)(float);
  std::uint16_t (*from_double)(double);
  std::uint16_t (*from_long_double)(long double);

  long double Value(std::uint32_t bits) const {
    return ValueOf(bits, exponent_bits, mantissa_bits);
  }
  std::uint32_t infinity() const { return ((1u << exponent_bits) - 1) << mantissa_bits; }
};

class HalfTest : public ::testing::TestWithParam<Format> {};

TEST_P(HalfTest, AllPatternsDecodeByDefinition) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float got = GetParam().to_float(static_cast<std::uint16_t>(bits));
    const long double want = GetParam().Value(bits);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(got, want) << bits;
      ASSERT_EQ(std::signbit(got), (bits & 0x8000) != 0) << bits;
    }
  }
}

TEST_P(HalfTest, AllPatternsSurviveARoundTrip) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = GetParam().to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      const std::uint16_t nan = GetParam().from_float(value);
      ASSERT_GT(nan & 0x7FFFu, GetParam().infinity()) << bits;
      ASSERT_EQ(nan & 0x8000u, bits & 0x8000u) << bits;
      ASSERT_GT(GetParam().from_double(value) & 0x7FFFu, GetParam().infinity()) << bits;
      continue;
    }
    ASSERT_EQ(GetParam().from_float(value), bits);
    ASSERT_EQ(GetParam().from_double(value), bits);
    ASSERT_EQ(GetParam().from_long_double(value), bits);
  }
}

// Between every two neighbours: the midpoint goes to the even one, and anything on its sides to the
// nearer one. The last interval ends in the value that would follow if the exponent went on.
TEST_P(HalfTest, RoundsToNearestEvenAtEveryMidpoint) {
  const Format& f = GetParam();
  for (std::uint32_t low = 0; low < f.infinity(); ++low) {
    const long double below = f.Value(low);
    const long double above =
        low + 1 == f.infinity() ? 2 * below - f.Value(low - 1) : f.Value(low + 1);
    const long double middle = (below + above) / 2;
    const std::uint32_t even = low % 2 == 0 ? low : low + 1;
    for (std::uint32_t sign : {0x0000u, 0x8000u}) {
      const long double s = sign ? -1 : 1;
      const double m = static_cast<double>(middle);
      ASSERT_EQ(f.from_double(static_cast<double>(s) * m), sign | even);
      ASSERT_EQ(f.from_double(static_cast<double>(s) * std::nextafter(m, 0.0)), sign | low);
      ASSERT_EQ(f.from_double(static_cast<double>(s) * std::nextafter(m, HUGE_VAL)),
                sign | (low + 1));
      ASSERT_EQ(f.from_long_double(s * std::nextafter(middle, 0.0L)), sign | low);
      ASSERT_EQ(f.from_long_double(s * std::nextafter(middle, HUGE_VALL)), sign | (low + 1));
      const auto m32 = static_cast<float>(middle);
      if (m32 != middle) continue;  // bfloat16's subnormal midpoints
      ASSERT_EQ(f.from_float(static_cast<float>(s) * m32), sign | even);
      ASSERT_EQ(f.from_float(static_cast<float>(s) * std::nextafter(m32, 0.0f)), sign | low);
      ASSERT_EQ(f.from_float(static_cast<float>(s) * std::nextafter(m32, HUGE_VALF)),
                sign | (low + 1));
    }
  }
}

TEST_P(HalfTest, FloatAndLongDoubleAgreeOnRandomBits) {
  testing::Random random(7);
  for (int i = 0; i < 500000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random.Bits()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(GetParam().from_float(value), GetParam().from_long_double(value)) << value;
    ASSERT_EQ(GetParam().from_float(value), GetParam().from_double(value)) << value;
  }
}

TEST_P(HalfTest, InfinitiesStay) {
  EXPECT_EQ(GetParam().from_float(HUGE_VALF), GetParam().infinity());
  EXPECT_EQ(GetParam().from_float(-HUGE_VALF), GetParam().infinity() | 0x8000);
  EXPECT_EQ(GetParam().from_double(-HUGE_VAL), GetParam().infinity() | 0x8000);
  EXPECT_EQ(GetParam().from_double(1e300), GetParam().infinity());
  EXPECT_EQ(GetParam().from_double(1e-300), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfTest,
                         ::testing::Values(Format{"float16", 5, 10, F16ToFloat, FloatToF16,
                                                  ToF16<double>, ToF16<long double>},
                                           Format{"bfloat16", 8, 7, BF16ToFloat, FloatToBF16,
                                                  ToBF16<double>, ToBF16<long double>}),
                         [](const auto& param_info) { return param_info.param.name; });

// 1 + 2^-11 + 2^-40: by way of float it would lose 2^-40, land on the midpoint and go down to 1.
TEST(HalfRoundingTest, DoublesAreRoundedOnce) {
  const double value = 1 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(ToF16(value), 0x3C01);
  EXPECT_EQ(FloatToF16(static_cast<float>(value)), 0x3C00);
}

}  // namespace
}  // namespace softloss
