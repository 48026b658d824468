#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/transpose.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <cstring>

#include "kernels/cpu/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
using Four = hn::FixedTag<float, 4>;
using V4 = hn::Vec<Four>;

HWY_INLINE void Transpose4(V4& a, V4& b, V4& c, V4& d) {
  const Four four;
  const V4 ac_low = hn::InterleaveLower(four, a, c), ac_high = hn::InterleaveUpper(four, a, c);
  const V4 bd_low = hn::InterleaveLower(four, b, d), bd_high = hn::InterleaveUpper(four, b, d);
  a = hn::InterleaveLower(four, ac_low, bd_low);
  b = hn::InterleaveUpper(four, ac_low, bd_low);
  c = hn::InterleaveLower(four, ac_high, bd_high);
  d = hn::InterleaveUpper(four, ac_high, bd_high);
}

// Four rows and four classes at a time; the last four classes may overlap those before.
template <bool kToColumns>
HWY_INLINE void Blocks(const float* from, std::size_t rows, std::size_t classes,
                       std::size_t from_stride, float* to, std::size_t to_stride) {
  const Four four;
  for (std::size_t r = 0; r < rows; r += 4) {
    for (std::size_t next = 0; next < classes; next += 4) {
      const std::size_t c = next + 4 <= classes ? next : classes - 4;
      const float* in = kToColumns ? from + r * from_stride + c : from + c * from_stride + r;
      float* out = kToColumns ? to + c * to_stride + r : to + r * to_stride + c;
      V4 v0 = hn::LoadU(four, in), v1 = hn::LoadU(four, in + from_stride);
      V4 v2 = hn::LoadU(four, in + 2 * from_stride), v3 = hn::LoadU(four, in + 3 * from_stride);
      Transpose4(v0, v1, v2, v3);
      hn::StoreU(v0, four, out);
      hn::StoreU(v1, four, out + to_stride);
      hn::StoreU(v2, four, out + 2 * to_stride);
      hn::StoreU(v3, four, out + 3 * to_stride);
    }
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

template <typename T>
HWY_INLINE void CopyElement(const T* from, std::size_t i, T* to, std::size_t j) {
  std::memcpy(reinterpret_cast<std::byte*>(to) + j * sizeof(T),
              reinterpret_cast<const std::byte*>(from) + i * sizeof(T), sizeof(T));
}

void ToColumns(const float* from, std::size_t rows, std::size_t classes, float* to,
               std::size_t stride) {
  std::size_t r = 0;
  if (classes == 1) {
    std::memcpy(to, from, rows * sizeof(float));
    return;
  }
#if HWY_TARGET != HWY_SCALAR
  if (classes == 2) {
    const hn::CappedTag<float, 16> d;
    for (; r + hn::Lanes(d) <= rows; r += hn::Lanes(d)) {
      hn::Vec<decltype(d)> a, b;
      hn::LoadInterleaved2(d, from + 2 * r, a, b);
      hn::Store(a, d, to + r);
      hn::Store(b, d, to + stride + r);
    }
  } else if (classes >= 4) {
    r = rows / 4 * 4;
    Blocks<true>(from, r, classes, classes, to, stride);
  }
#endif
  for (; r < rows; ++r) {
    for (std::size_t c = 0; c < classes; ++c)
      CopyElement(from, r * classes + c, to, c * stride + r);
  }
}

void ToRows(const float* from, std::size_t stride, std::size_t rows, std::size_t classes,
            float* to) {
  std::size_t r = 0;
  if (classes == 1) {
    std::memcpy(to, from, rows * sizeof(float));
    return;
  }
#if HWY_TARGET != HWY_SCALAR
  if (classes == 2) {
    const hn::CappedTag<float, 16> d;
    for (; r + hn::Lanes(d) <= rows; r += hn::Lanes(d)) {
      hn::StoreInterleaved2(hn::Load(d, from + r), hn::Load(d, from + stride + r), d, to + 2 * r);
    }
  } else if (classes >= 4) {
    r = rows / 4 * 4;
    Blocks<false>(from, r, classes, stride, to, classes);
  }
#endif
  for (; r < rows; ++r) {
    for (std::size_t c = 0; c < classes; ++c)
      CopyElement(from, c * stride + r, to, r * classes + c);
  }
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(ToColumns);
HWY_EXPORT(ToRows);

void RowsToColumns(const float* from, std::size_t rows, std::size_t classes, float* to,
                   std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(ToColumns)(from, rows, classes, to, stride);
}

void ColumnsToRows(const float* from, std::size_t stride, std::size_t rows, std::size_t classes,
                   float* to) {
  HWY_DYNAMIC_DISPATCH(ToRows)(from, stride, rows, classes, to);
}

// fp64 is for precision, not for speed.
void RowsToColumns(const double* from, std::size_t rows, std::size_t classes, double* to,
                   std::size_t stride) {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < classes; ++c) {
      std::memcpy(to + c * stride + r,
                  reinterpret_cast<const std::byte*>(from) + (r * classes + c) * sizeof(double),
                  sizeof(double));
    }
  }
}

void ColumnsToRows(const double* from, std::size_t stride, std::size_t rows, std::size_t classes,
                   double* to) {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < classes; ++c) {
      std::memcpy(reinterpret_cast<std::byte*>(to) + (r * classes + c) * sizeof(double),
                  from + c * stride + r, sizeof(double));
    }
  }
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
