#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/annotation/pixels_simd.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/annotation/pixels_simd.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::annotation::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

// Vectors of one lane cannot be cut into parts: all is left to what is left anyway.
std::size_t SumMaskVectors(const std::uint8_t*, std::size_t, int, MaskSums&) { return 0; }
std::size_t SumDifferenceVectors(const std::uint8_t*, const std::uint8_t*, std::size_t,
                                 std::uint64_t&) {
  return 0;
}

#else
namespace hn = hwy::HWY_NAMESPACE;

using D8 = hn::ScalableTag<std::uint8_t>;
using D16 = hn::Repartition<std::uint16_t, D8>;
using DI16 = hn::Repartition<std::int16_t, D8>;
using D32 = hn::Repartition<std::uint32_t, D8>;
using DI32 = hn::Repartition<std::int32_t, D8>;
using D64 = hn::Repartition<std::uint64_t, D8>;
using V8 = hn::Vec<D8>;
using V16 = hn::Vec<D16>;
using VI32 = hn::Vec<DI32>;
using V64 = hn::Vec<D64>;

// The bytes of even and of odd places, as 16-bit numbers.
HWY_INLINE V16 Even(V8 v) { return hn::And(hn::BitCast(D16(), v), hn::Set(D16(), 0xFF)); }
HWY_INLINE V16 Odd(V8 v) { return hn::ShiftRight<8>(hn::BitCast(D16(), v)); }

HWY_INLINE std::uint64_t Total(V64 v) { return hn::GetLane(hn::SumOfLanes(D64(), v)); }

// Steps before the lanes of Squares are taken: none adds more than 2^23 to a lane.
constexpr std::size_t kSteps = 255;

HWY_INLINE std::uint64_t TotalOfHalves(VI32 v) {
  const V64 u = hn::BitCast(D64(), v);
  return Total(hn::Add(hn::And(u, hn::Set(D64(), 0xFFFFFFFFu)), hn::ShiftRight<32>(u)));
}

// Σ x² of 16-bit numbers of at most 8·255.
class Squares {
 public:
  // By hand: one that the compiler made would not be for this target.
  HWY_INLINE Squares() : low_(hn::Zero(DI32())), high_(hn::Zero(DI32())) {}

  HWY_INLINE void Add(V16 x) {
    const auto y = hn::BitCast(DI16(), x);
    low_ = hn::ReorderWidenMulAccumulate(DI32(), y, y, low_, high_);
  }
  HWY_INLINE std::uint64_t Take() {
    const std::uint64_t sum = TotalOfHalves(low_) + TotalOfHalves(high_);
    low_ = high_ = hn::Zero(DI32());
    return sum;
  }

 private:
  VI32 low_, high_;
};

// Sums of whole vectors of pixels, by the number of readers.
template <int kReaders>
struct Step;

// Of single values: no sums over pixels.
template <>
struct Step<1> {
  static constexpr std::size_t kVectors = 1;
  HWY_INLINE void operator()(const std::uint8_t* p, V64& sum, Squares& squares, Squares&) {
    const V8 v = hn::LoadU(D8(), p);
    sum = hn::Add(sum, hn::SumsOf8(v));
    squares.Add(Even(v));
    squares.Add(Odd(v));
  }
};

template <>
struct Step<2> {
  static constexpr std::size_t kVectors = 1;
  HWY_INLINE void operator()(const std::uint8_t* p, V64& sum, Squares& squares, Squares& pixels) {
    const V8 v = hn::LoadU(D8(), p);
    const V16 even = Even(v), odd = Odd(v);
    sum = hn::Add(sum, hn::SumsOf8(v));
    squares.Add(even);
    squares.Add(odd);
    pixels.Add(hn::Add(even, odd));
  }
};

template <>
struct Step<3> {
  static constexpr std::size_t kVectors = 3;
  HWY_INLINE void operator()(const std::uint8_t* p, V64& sum, Squares& squares, Squares& pixels) {
    V8 a, b, c;
    hn::LoadInterleaved3(D8(), p, a, b, c);
    sum = hn::Add(hn::Add(sum, hn::SumsOf8(a)), hn::Add(hn::SumsOf8(b), hn::SumsOf8(c)));
    for (const V8 v : {a, b, c}) {
      squares.Add(Even(v));
      squares.Add(Odd(v));
    }
    pixels.Add(hn::Add(hn::Add(Even(a), Even(b)), Even(c)));
    pixels.Add(hn::Add(hn::Add(Odd(a), Odd(b)), Odd(c)));
  }
};

template <>
struct Step<4> {
  static constexpr std::size_t kVectors = 1;
  HWY_INLINE void operator()(const std::uint8_t* p, V64& sum, Squares& squares, Squares& pixels) {
    const V8 v = hn::LoadU(D8(), p);
    const V16 even = Even(v), odd = Odd(v);
    sum = hn::Add(sum, hn::SumsOf8(v));
    squares.Add(even);
    squares.Add(odd);
    const auto pairs = hn::BitCast(D32(), hn::Add(even, odd));
    const auto pixel = hn::Add(hn::And(pairs, hn::Set(D32(), 0xFFFF)), hn::ShiftRight<16>(pairs));
    pixels.Add(hn::BitCast(D16(), pixel));
  }
};

template <>
struct Step<8> {
  static constexpr std::size_t kVectors = 1;
  HWY_INLINE void operator()(const std::uint8_t* p, V64& sum, Squares& squares, Squares& pixels) {
    const V8 v = hn::LoadU(D8(), p);
    const V64 pixel = hn::SumsOf8(v);
    sum = hn::Add(sum, pixel);
    squares.Add(Even(v));
    squares.Add(Odd(v));
    pixels.Add(hn::BitCast(D16(), pixel));
  }
};

// Returns how many pixels it has done.
template <int kReaders>
std::size_t SumVectors(const std::uint8_t* value, std::size_t pixels, MaskSums& out) {
  const std::size_t step = hn::Lanes(D8()) * Step<kReaders>::kVectors;  // bytes
  const std::size_t end = pixels * kReaders;
  Step<kReaders> add;
  Squares squares, pixel_squares;
  V64 sum = hn::Zero(D64());
  std::size_t at = 0;
  while (at + step <= end) {
    for (const std::size_t stop = std::min(end, at + kSteps * step); at + step <= stop;
         at += step) {
      add(value + at, sum, squares, pixel_squares);
    }
    out.squares += squares.Take();
    out.pixel_squares += pixel_squares.Take();
  }
  out.sum += Total(sum);
  return at / kReaders;
}

std::size_t SumMaskVectors(const std::uint8_t* value, std::size_t pixels, int readers,
                           MaskSums& out) {
  switch (readers) {
    case 1: return SumVectors<1>(value, pixels, out);
    case 2: return SumVectors<2>(value, pixels, out);
    case 3: return SumVectors<3>(value, pixels, out);
    case 4: return SumVectors<4>(value, pixels, out);
    case 8: return SumVectors<8>(value, pixels, out);
    default: return 0;
  }
}

// Returns how many values it has done.
std::size_t SumDifferenceVectors(const std::uint8_t* a, const std::uint8_t* b, std::size_t n,
                                 std::uint64_t& out) {
  const std::size_t lanes = hn::Lanes(D8());
  V64 sum = hn::Zero(D64());
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V8 x = hn::LoadU(D8(), a + i), y = hn::LoadU(D8(), b + i);
    sum = hn::Add(sum, hn::SumsOf8(hn::Sub(hn::Max(x, y), hn::Min(x, y))));
  }
  out += Total(sum);
  return i;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace softloss::annotation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::annotation {
HWY_EXPORT(SumMaskVectors);
HWY_EXPORT(SumDifferenceVectors);

namespace {

// Sums pixel by pixel what vectors left; of 1 reader, no sums over pixels.
void SumEach(const std::uint8_t* value, std::size_t pixels, int readers, MaskSums& out) {
  for (std::size_t i = 0; i < pixels; ++i) {
    std::uint64_t pixel = 0;
    for (int r = 0; r < readers; ++r) {
      const std::uint64_t p = value[i * readers + r];
      pixel += p;
      out.squares += p * p;
    }
    out.sum += pixel;
    if (readers > 1) out.pixel_squares += pixel * pixel;
  }
}

MaskSums SumMaskValues(const std::uint8_t* value, std::size_t pixels, int readers) {
  MaskSums out;
  const std::size_t done = HWY_DYNAMIC_DISPATCH(SumMaskVectors)(value, pixels, readers, out);
  SumEach(value + done * readers, pixels - done, readers, out);
  return out;
}

// Σ of a pixel's values, eight at a time; reads up to 7 bytes beyond them.
std::uint64_t SumPixel(const std::uint8_t* value, int readers) {
  constexpr std::uint64_t kEven = 0x00FF00FF00FF00FFu;
  std::uint64_t sums = 0;  // four of 16 bits: enough for 1024 readers
  for (int r = 0; r < readers; r += 8) {
    std::uint64_t word;
    std::memcpy(&word, value + r, sizeof(word));
    const int over = r + 8 - readers;
    if (over > 0)
      word = (std::endian::native == std::endian::little) ? word << (8 * over) : word >> (8 * over);
    sums += (word & kEven) + (word >> 8 & kEven);
  }
  return (sums & 0xFFFF) + (sums >> 16 & 0xFFFF) + (sums >> 32 & 0xFFFF) + (sums >> 48);
}

// Of numbers of readers that do not divide vectors.
MaskSums SumOddMasks(const std::uint8_t* value, std::size_t pixels, int readers) {
  constexpr std::size_t kBlock = 1
                                 << 14;  // bytes: the second look at a block finds it in the cache
  const std::size_t stride = readers, block = std::max<std::size_t>(kBlock / stride, 1);
  MaskSums out;
  for (std::size_t begin = 0; begin < pixels; begin += block) {
    const std::size_t end = std::min(pixels, begin + block);
    const MaskSums flat = SumMaskValues(value + begin * stride, (end - begin) * stride, 1);
    out.sum += flat.sum;
    out.squares += flat.squares;
    std::size_t i = begin;
    for (; i < end && i * stride + stride + 7 <= pixels * stride; ++i) {
      const std::uint64_t sum = SumPixel(value + i * stride, readers);
      out.pixel_squares += sum * sum;
    }
    for (; i < end; ++i) {
      std::uint64_t sum = 0;
      for (std::size_t r = 0; r < stride; ++r) sum += value[i * stride + r];
      out.pixel_squares += sum * sum;
    }
  }
  return out;
}

}  // namespace

MaskSums SumMasks(const std::uint8_t* value, std::size_t pixels, int readers) {
  if (readers == 2 || readers == 3 || readers == 4 || readers == 8) {
    return SumMaskValues(value, pixels, readers);
  }
  return SumOddMasks(value, pixels, readers);
}

std::uint64_t SumDifferences(const std::uint8_t* a, const std::uint8_t* b, std::size_t n) {
  std::uint64_t sum = 0;
  for (std::size_t i = HWY_DYNAMIC_DISPATCH(SumDifferenceVectors)(a, b, n, sum); i < n; ++i) {
    sum += a[i] < b[i] ? b[i] - a[i] : a[i] - b[i];
  }
  return sum;
}

}  // namespace softloss::annotation
#endif  // HWY_ONCE
