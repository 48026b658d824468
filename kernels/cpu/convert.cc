#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/convert.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <cstdint>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/half.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::Rebind<std::uint32_t, F32>;
using I32 = hn::Rebind<std::int32_t, F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using U8Tag = hn::Rebind<std::uint8_t, F32>;
using VF = hn::Vec<F32>;
using VU = hn::Vec<U32>;

// Applies `body(from, to)`, which converts a whole vector, to `n` elements. The last, incomplete
// vector goes through padded copies, so that its elements take the same instructions.
template <typename From, typename To, class Body>
HWY_INLINE void ForVectors(const std::byte* from, std::size_t n, std::byte* to, Body body) {
  const std::size_t lanes = hn::Lanes(F32());
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    body(reinterpret_cast<const From*>(from + i * sizeof(From)),
         reinterpret_cast<To*>(to + i * sizeof(To)));
  }
  if (i == n) return;
  HWY_ALIGN From in[16] = {};
  HWY_ALIGN To out[16];
  std::memcpy(in, from + i * sizeof(From), (n - i) * sizeof(From));
  body(in, out);
  std::memcpy(to + i * sizeof(To), out, (n - i) * sizeof(To));
}

HWY_INLINE VF F16Bits(VU h) {
  const F32 d;
  const U32 du;
  const VU magnitude = hn::ShiftLeft<13>(hn::And(h, hn::Set(du, 0x7FFF)));
  // Rebasing the exponent by a multiplication makes subnormals right too.
  const VU finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
  const VU special = hn::Or(magnitude, hn::Set(du, 0x7F800000));
  // Magnitudes are below 2^31, so that signed comparisons do.
  const I32 di;
  const auto is_special = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x0F7FFFFF));
  const VU value = hn::BitCast(
      du, hn::IfThenElse(is_special, hn::BitCast(di, special), hn::BitCast(di, finite)));
  return hn::BitCast(d, hn::Or(value, hn::ShiftLeft<16>(hn::And(h, hn::Set(du, 0x8000)))));
}

// kernels/half.h FloatToF16, in vectors; the result is in the low half of every lane.
HWY_INLINE VU ToF16Bits(VF value) {
  const F32 d;
  const U32 du;
  const I32 di;
  const VU bits = hn::BitCast(du, value);
  const VU sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000));
  const VU magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFF));
  const auto signed_magnitude = hn::BitCast(di, magnitude);
  const VU odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1));
  const VU normal = hn::ShiftRight<13>(
      hn::Add(hn::Sub(magnitude, hn::Set(du, 112u << 23)), hn::Add(odd, hn::Set(du, 0xFFF))));
  // Below 2^-14: adding ½ leaves the value in units of 2^-24 in the low bits, rounded to even.
  const VU subnormal =
      hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, magnitude), hn::Set(d, 0.5f))),
              hn::Set(du, 0x3F000000));
  const VU nan =
      hn::Or(hn::Set(du, 0x7E00), hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 0x3FF)));
  auto h = hn::BitCast(di, normal);
  h = hn::IfThenElse(hn::Lt(signed_magnitude, hn::Set(di, 0x38800000)), hn::BitCast(di, subnormal),
                     h);
  h = hn::IfThenElse(hn::Gt(signed_magnitude, hn::Set(di, 0x477FEFFF)), hn::Set(di, 0x7C00), h);
  h = hn::IfThenElse(hn::Gt(signed_magnitude, hn::Set(di, 0x7F800000)), hn::BitCast(di, nan), h);
  return hn::Or(hn::BitCast(du, h), sign);
}

// kernels/half.h FloatToBF16, in vectors.
HWY_INLINE VU ToBF16Bits(VF value) {
  const U32 du;
  const I32 di;
  const VU bits = hn::BitCast(du, value);
  const VU high = hn::ShiftRight<16>(bits);
  const VU odd = hn::And(high, hn::Set(du, 1));
  const VU rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF))));
  const VU nan = hn::Or(high, hn::Set(du, 0x40));
  const auto magnitude = hn::BitCast(di, hn::And(bits, hn::Set(du, 0x7FFFFFFF)));
  return hn::BitCast(du, hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7F800000)),
                                        hn::BitCast(di, nan), hn::BitCast(di, rounded)));
}

HWY_INLINE void StoreLowHalves(VU v, std::uint16_t* to) {
  hn::StoreU(hn::DemoteTo(U16(), hn::BitCast(I32(), v)), U16(), to);
}

void DecodeF32(DType dtype, U8 u8, const std::byte* from, std::size_t n, float* to_floats) {
  const F32 d;
  std::byte* to = reinterpret_cast<std::byte*>(to_floats);
  switch (dtype) {
    case DType::kF32: std::memcpy(to, from, n * sizeof(float)); return;
    case DType::kF16:
      ForVectors<std::uint16_t, float>(
          from, n, to, [&](const std::uint16_t* in, float* out) HWY_ATTR {
            hn::StoreU(F16Bits(hn::PromoteTo(U32(), hn::LoadU(U16(), in))), d, out);
          });
      return;
    case DType::kBF16:
      ForVectors<std::uint16_t, float>(
          from, n, to, [&](const std::uint16_t* in, float* out) HWY_ATTR {
            const VU bits = hn::ShiftLeft<16>(hn::PromoteTo(U32(), hn::LoadU(U16(), in)));
            hn::StoreU(hn::BitCast(d, bits), d, out);
          });
      return;
    case DType::kF64:
      for (std::size_t i = 0; i < n; ++i) {
        double value;
        std::memcpy(&value, from + i * sizeof(double), sizeof(double));
        to_floats[i] = static_cast<float>(value);
      }
      return;
    default: {
      const VF divisor = hn::Set(d, u8 == U8::kDivideBy255 ? 255.0f : 1.0f);
      ForVectors<std::uint8_t, float>(
          from, n, to, [&](const std::uint8_t* in, float* out) HWY_ATTR {
            const auto wide = hn::PromoteTo(I32(), hn::LoadU(U8Tag(), in));
            hn::StoreU(hn::Div(hn::ConvertTo(d, wide), divisor), d, out);
          });
    }
  }
}

void EncodeF32(const float* from_floats, std::size_t n, DType dtype, std::byte* to) {
  const F32 d;
  const std::byte* from = reinterpret_cast<const std::byte*>(from_floats);
  switch (dtype) {
    case DType::kF16:
      ForVectors<float, std::uint16_t>(from, n, to,
                                       [&](const float* in, std::uint16_t* out) HWY_ATTR {
                                         StoreLowHalves(ToF16Bits(hn::LoadU(d, in)), out);
                                       });
      return;
    case DType::kBF16:
      ForVectors<float, std::uint16_t>(from, n, to,
                                       [&](const float* in, std::uint16_t* out) HWY_ATTR {
                                         StoreLowHalves(ToBF16Bits(hn::LoadU(d, in)), out);
                                       });
      return;
    case DType::kF64:
      for (std::size_t i = 0; i < n; ++i) {
        const double value = from_floats[i];
        std::memcpy(to + i * sizeof(double), &value, sizeof(double));
      }
      return;
    default: std::memcpy(to, from, n * sizeof(float)); return;
  }
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {
namespace {

HWY_EXPORT(DecodeF32);
HWY_EXPORT(EncodeF32);

template <typename T>
T Load(const std::byte* from, std::size_t i) {
  T value;
  std::memcpy(&value, from + i * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void Store(T value, std::byte* to, std::size_t i) {
  std::memcpy(to + i * sizeof(T), &value, sizeof(T));
}

}  // namespace

void Decode(DType dtype, U8 u8, const std::byte* from, std::size_t n, float* to) {
  HWY_DYNAMIC_DISPATCH(DecodeF32)(dtype, u8, from, n, to);
}

void Encode(const float* from, std::size_t n, DType dtype, std::byte* to) {
  HWY_DYNAMIC_DISPATCH(EncodeF32)(from, n, dtype, to);
}

// fp64 is for precision, not for speed.
void Decode(DType dtype, U8 u8, const std::byte* from, std::size_t n, double* to) {
  const double divisor = u8 == U8::kDivideBy255 ? 255 : 1;
  switch (dtype) {
    case DType::kF32:
      for (std::size_t i = 0; i < n; ++i) to[i] = Load<float>(from, i);
      return;
    case DType::kF16:
      for (std::size_t i = 0; i < n; ++i) to[i] = F16ToFloat(Load<std::uint16_t>(from, i));
      return;
    case DType::kBF16:
      for (std::size_t i = 0; i < n; ++i) to[i] = BF16ToFloat(Load<std::uint16_t>(from, i));
      return;
    case DType::kF64: std::memcpy(to, from, n * sizeof(double)); return;
    default:
      for (std::size_t i = 0; i < n; ++i) to[i] = Load<std::uint8_t>(from, i) / divisor;
  }
}

void Encode(const double* from, std::size_t n, DType dtype, std::byte* to) {
  switch (dtype) {
    case DType::kF32:
      for (std::size_t i = 0; i < n; ++i) Store(static_cast<float>(from[i]), to, i);
      return;
    case DType::kF16:
      for (std::size_t i = 0; i < n; ++i) Store(ToF16(from[i]), to, i);
      return;
    case DType::kBF16:
      for (std::size_t i = 0; i < n; ++i) Store(ToBF16(from[i]), to, i);
      return;
    default: std::memcpy(to, from, n * sizeof(double)); return;
  }
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
