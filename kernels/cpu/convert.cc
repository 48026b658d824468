#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/convert.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/half.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

inline constexpr float kOver255 = 0x1.01p-8f;
inline constexpr float kOver255Rest = static_cast<float>(1.0 / 255 - 0x1.01p-8);

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::Rebind<std::uint32_t, F32>;
using I32 = hn::Rebind<std::int32_t, F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using U8Tag = hn::Rebind<std::uint8_t, F32>;
using F16 = hn::Rebind<hwy::float16_t, F32>;
using VF = hn::Vec<F32>;
using VU = hn::Vec<U32>;

// What is converted at a time: loops over single vectors cost more than what they do.
inline constexpr std::size_t kStep = 4;

// Applies `body(from, to)`, which converts kStep vectors, to `n` elements. The last ones are converted
// together with some before them, or, where there are too few, in padded copies.
template <typename From, typename To, class Body>
HWY_INLINE void ForSteps(const std::byte* from, std::size_t n, std::byte* to, Body body) {
  const std::size_t step = kStep * hn::Lanes(F32());
  HWY_ALIGN From in[kStep * 16];
  HWY_ALIGN To out[kStep * 16];
  std::byte* const end = to;
  const bool few = n < step;
  if (few) {
    std::memset(in, 0, sizeof(in));
    std::memcpy(in, from, n * sizeof(From));
    from = reinterpret_cast<const std::byte*>(in);
    to = reinterpret_cast<std::byte*>(out);
  }
  // One place to convert at, so that it is inlined.
  const std::size_t last = few ? 0 : n - step;
  for (std::size_t i = 0; i < last + step; i += step) {
    const std::size_t at = std::min(i, last);
    body(reinterpret_cast<const From*>(from + at * sizeof(From)),
         reinterpret_cast<To*>(to + at * sizeof(To)));
  }
  if (few) std::memcpy(end, out, n * sizeof(To));
}

// The same by `convert`, from a vector that FromTag loads to one that ToTag stores.
template <class FromTag, class ToTag, class Convert>
HWY_INLINE void ForVectors(const std::byte* from, std::size_t n, std::byte* to, Convert convert) {
  ForSteps<hn::TFromD<FromTag>, hn::TFromD<ToTag>>(from, n, to, [&](auto* in, auto* out) HWY_ATTR {
    const std::size_t lanes = hn::Lanes(F32());
    ForEach<kStep>([&](auto i) HWY_ATTR {
      hn::StoreU(convert(hn::LoadU(FromTag(), in + i * lanes)), ToTag(), out + i * lanes);
    });
  });
}

#undef SOFTLOSS_HAVE_F16C
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
#define SOFTLOSS_HAVE_F16C 1
#else
#define SOFTLOSS_HAVE_F16C 0
#endif

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

// kernels/half.h FloatToBF16, in vectors; the result is in the high half of every lane. Without kNaN
// the value must not be one.
template <bool kNaN>
HWY_INLINE VU ToBF16Bits(VF value) {
  const U32 du;
  const VU bits = hn::BitCast(du, value);
  const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const VU rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
  if constexpr (!kNaN) return rounded;
  const VU quiet = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::Eq(value, value)), rounded, quiet);
}

// Converts kStep vectors.
struct StoreBF16 {
  HWY_INLINE void operator()(const float* from, std::uint16_t* to) const {
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t i = 0; i < kStep; ++i) {
      const std::uint16_t bits = FloatToBF16(from[i]);
      std::memcpy(reinterpret_cast<std::byte*>(to) + i * sizeof(bits), &bits, sizeof(bits));
    }
#else
    const F32 d;
    // NaN if one of them is, or with infinities.
    const VF sum = SumOfPack(LoadPack<kStep>(d, from, hn::Lanes(d)));
    if (HWY_LIKELY(hn::AllTrue(d, hn::Eq(sum, sum)))) {
      Store<false>(from, to);
    } else {
      Store<true>(from, to);
    }
#endif
  }

#if HWY_TARGET != HWY_SCALAR
 private:
  template <bool kNaN>
  static HWY_INLINE void Store(const float* from, std::uint16_t* to) {
    const F32 d;
    const hn::Repartition<std::uint16_t, F32> d16;
    const std::size_t lanes = hn::Lanes(d);
    const auto rounded = [&](std::size_t i) HWY_ATTR {
      return hn::BitCast(d16, ToBF16Bits<kNaN>(hn::LoadU(d, from + i * lanes)));
    };
    hn::StoreU(hn::ConcatOdd(d16, rounded(1), rounded(0)), d16, to);
    hn::StoreU(hn::ConcatOdd(d16, rounded(3), rounded(2)), d16, to + 2 * lanes);
  }
#endif
};

// i / 255 for i = 0 … 255, as the division would round it: a factor of 1/255 that has 12 bits, so that
// the product with it is exact, and the rest.
HWY_INLINE VF Over255(VF i) {
  const F32 d;
  const VF rest = hn::Mul(i, hn::Set(d, kOver255Rest));
  return hn::MulAdd(i, hn::Set(d, kOver255), rest);
}

void DecodeF32(DType dtype, U8 u8, const std::byte* from, std::size_t n, float* to_floats) {
  std::byte* to = reinterpret_cast<std::byte*>(to_floats);
  switch (dtype) {
    case DType::kF32: std::memcpy(to, from, n * sizeof(float)); return;
    case DType::kF16:
#if SOFTLOSS_HAVE_F16C
      ForVectors<F16, F32>(from, n, to, [](auto h) HWY_ATTR { return hn::PromoteTo(F32(), h); });
#else
      ForVectors<U16, F32>(from, n, to,
                           [](auto h) HWY_ATTR { return F16Bits(hn::PromoteTo(U32(), h)); });
#endif
      return;
    case DType::kBF16:
      ForVectors<U16, F32>(from, n, to, [](auto h) HWY_ATTR {
        return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), h)));
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
      const auto count = [](auto v)
                             HWY_ATTR { return hn::ConvertTo(F32(), hn::PromoteTo(I32(), v)); };
      if (u8 == U8::kCount) {
        ForVectors<U8Tag, F32>(from, n, to, count);
      } else {
        ForVectors<U8Tag, F32>(from, n, to, [&](auto v) HWY_ATTR { return Over255(count(v)); });
      }
    }
  }
}

void EncodeF32(const float* from_floats, std::size_t n, DType dtype, std::byte* to) {
  const std::byte* from = reinterpret_cast<const std::byte*>(from_floats);
  switch (dtype) {
    case DType::kF16:
#if SOFTLOSS_HAVE_F16C
      ForVectors<F32, F16>(from, n, to, [](VF v) HWY_ATTR { return hn::DemoteTo(F16(), v); });
#else
      ForVectors<F32, U16>(from, n, to, [](VF v) HWY_ATTR {
        return hn::DemoteTo(U16(), hn::BitCast(I32(), ToF16Bits(v)));
      });
#endif
      return;
    case DType::kBF16: ForSteps<float, std::uint16_t>(from, n, to, StoreBF16()); return;
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
