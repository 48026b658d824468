// The conversions of the backend "cpu" on every SIMD target that this machine can run, bit by bit
// against kernels/half.h.
#include "kernels/cpu/convert.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/half.h"

namespace softloss::cpu {
namespace {

class CpuConvertTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  static void Choose(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

template <typename T>
std::vector<float> Decoded(DType dtype, U8 u8, const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T) + 1);  // misaligned
  std::memcpy(bytes.data() + 1, values.data(), values.size() * sizeof(T));
  std::vector<float> to(values.size());
  Decode(dtype, u8, bytes.data() + 1, values.size(), to.data());
  return to;
}

std::vector<std::uint16_t> Encoded(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * 2 + 1);
  Encode(values.data(), values.size(), dtype, bytes.data() + 1);
  std::vector<std::uint16_t> to(values.size());
  std::memcpy(to.data(), bytes.data() + 1, values.size() * 2);
  return to;
}

TEST_P(CpuConvertTest, EveryHalfIsDecodedExactly) {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const std::vector<float> f16 = Decoded(DType::kF16, U8::kCount, all);
  const std::vector<float> bf16 = Decoded(DType::kBF16, U8::kCount, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float want = F16ToFloat(all[i]);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(f16[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(f16[i]), std::bit_cast<std::uint32_t>(want)) << i;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16[i]), std::uint32_t{all[i]} << 16) << i;
  }
}

TEST_P(CpuConvertTest, EveryByteIsDividedAsTheDivisionRounds) {
  std::vector<std::uint8_t> all(256);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i);
  const std::vector<float> parts = Decoded(DType::kU8, U8::kDivideBy255, all);
  const std::vector<float> counts = Decoded(DType::kU8, U8::kCount, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(parts[i], static_cast<float>(i) / 255.0f) << i;
    EXPECT_EQ(counts[i], static_cast<float>(i)) << i;
  }
}

// Every upper half of a float, with lower halves around the ties of both formats.
TEST_P(CpuConvertTest, EncodingRoundsOnceToEven) {
  std::vector<float> values;
  for (std::uint32_t high = 0; high < 1 << 16; ++high) {
    for (std::uint32_t low :
         {0u, 1u, 0xFFFu, 0x1000u, 0x1001u, 0x3000u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      values.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  const std::vector<std::uint16_t> f16 = Encoded(values, DType::kF16);
  const std::vector<std::uint16_t> bf16 = Encoded(values, DType::kBF16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    ASSERT_EQ(f16[i], FloatToF16(values[i])) << std::hex << bits;
    ASSERT_EQ(bf16[i], FloatToBF16(values[i])) << std::hex << bits;
  }
}

// Lengths around every vector, with one NaN among numbers and infinities that cancel.
TEST_P(CpuConvertTest, LengthsAndNeighbours) {
  constexpr std::uint16_t kGuard = 0xA5A5;
  const float infinity = std::numeric_limits<float>::infinity();
  for (std::size_t n = 0; n < 150; ++n) {
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = std::ldexp(1.0f + 0.001f * i, 7 - i % 40);
    if (n > 2) values[n / 2] = std::bit_cast<float>(0x7FFFFFFFu);
    if (n > 20) values[3] = infinity, values[11] = -infinity;
    for (DType dtype : {DType::kF16, DType::kBF16}) {
      std::vector<std::uint16_t> to(n + 1, kGuard);
      Encode(values.data(), n, dtype, reinterpret_cast<std::byte*>(to.data()));
      for (std::size_t i = 0; i < n; ++i) {
        EXPECT_EQ(to[i], dtype == DType::kF16 ? FloatToF16(values[i]) : FloatToBF16(values[i]));
      }
      EXPECT_EQ(to[n], kGuard);
      to.resize(n);
      std::vector<float> back(n + 1, 123.0f);
      Decode(dtype, U8::kCount, reinterpret_cast<const std::byte*>(to.data()), n, back.data());
      for (std::size_t i = 0; i < n; ++i) {
        const float want = dtype == DType::kF16 ? F16ToFloat(to[i]) : BF16ToFloat(to[i]);
        EXPECT_TRUE(back[i] == want || (std::isnan(back[i]) && std::isnan(want)));
      }
      EXPECT_EQ(back[n], 123.0f);
    }
    if (HasFailure()) FAIL() << n << " elements";
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuConvertTest,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace softloss::cpu
