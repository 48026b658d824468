#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/transpose.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <cstring>

#include "kernels/cpu/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
HWY_INLINE void CopyElement(const T* from, std::size_t i, T* to, std::size_t j) {
  std::memcpy(reinterpret_cast<std::byte*>(to) + j * sizeof(T),
              reinterpret_cast<const std::byte*>(from) + i * sizeof(T), sizeof(T));
}

#if HWY_TARGET != HWY_SCALAR
using Four = hn::FixedTag<float, 4>;
#if HWY_MAX_BYTES >= 32 && !HWY_HAVE_SCALABLE
using Rows = hn::FixedTag<float, 8>;
#else
using Rows = Four;
#endif

// Four values from each of Lanes(d) / 4 rows, `apart` elements from one another.
HWY_INLINE hn::Vec<Four> LoadRows(Four d, const float* from, std::size_t) {
  return hn::LoadU(d, from);
}
HWY_INLINE void StoreRows(hn::Vec<Four> v, Four d, float* to, std::size_t) { hn::StoreU(v, d, to); }
#if HWY_MAX_BYTES >= 32 && !HWY_HAVE_SCALABLE
HWY_INLINE hn::Vec<Rows> LoadRows(Rows d, const float* from, std::size_t apart) {
  return hn::Combine(d, hn::LoadU(Four(), from + apart), hn::LoadU(Four(), from));
}
HWY_INLINE void StoreRows(hn::Vec<Rows> v, Rows, float* to, std::size_t apart) {
  hn::StoreU(hn::LowerHalf(Four(), v), Four(), to);
  hn::StoreU(hn::UpperHalf(Four(), v), Four(), to + apart);
}
#endif

// Transposes 4×4 in every block of 128 bits.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Transpose4(D d, V& v0, V& v1, V& v2, V& v3) {
  const V low02 = hn::InterleaveLower(d, v0, v2), high02 = hn::InterleaveUpper(d, v0, v2);
  const V low13 = hn::InterleaveLower(d, v1, v3), high13 = hn::InterleaveUpper(d, v1, v3);
  v0 = hn::InterleaveLower(d, low02, low13);
  v1 = hn::InterleaveUpper(d, low02, low13);
  v2 = hn::InterleaveLower(d, high02, high13);
  v3 = hn::InterleaveUpper(d, high02, high13);
}

// Rows [begin, rows), Lanes(d) at a time as far as they go, and four classes at a time, of which the
// last four may overlap those before. Returns where it stopped.
template <class D>
HWY_INLINE std::size_t ToColumnsBy(D d, const float* from, std::size_t begin, std::size_t rows,
                                   std::size_t classes, float* to, std::size_t stride) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t r = begin;
  for (; r + lanes <= rows; r += lanes) {
    for (std::size_t next = 0; next < classes; next += 4) {
      const std::size_t c = next + 4 <= classes ? next : classes - 4;
      const float* in = from + r * classes + c;
      float* out = to + c * stride + r;
      auto v0 = LoadRows(d, in, 4 * classes), v1 = LoadRows(d, in + classes, 4 * classes);
      auto v2 = LoadRows(d, in + 2 * classes, 4 * classes);
      auto v3 = LoadRows(d, in + 3 * classes, 4 * classes);
      Transpose4(d, v0, v1, v2, v3);
      hn::StoreU(v0, d, out);
      hn::StoreU(v1, d, out + stride);
      hn::StoreU(v2, d, out + 2 * stride);
      hn::StoreU(v3, d, out + 3 * stride);
    }
  }
  return r;
}

template <class D>
HWY_INLINE std::size_t ToRowsBy(D d, const float* from, std::size_t begin, std::size_t stride,
                                std::size_t rows, std::size_t classes, float* to) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t r = begin;
  for (; r + lanes <= rows; r += lanes) {
    for (std::size_t next = 0; next < classes; next += 4) {
      const std::size_t c = next + 4 <= classes ? next : classes - 4;
      const float* in = from + c * stride + r;
      float* out = to + r * classes + c;
      auto v0 = hn::LoadU(d, in), v1 = hn::LoadU(d, in + stride);
      auto v2 = hn::LoadU(d, in + 2 * stride), v3 = hn::LoadU(d, in + 3 * stride);
      Transpose4(d, v0, v1, v2, v3);
      StoreRows(v0, d, out, 4 * classes);
      StoreRows(v1, d, out + classes, 4 * classes);
      StoreRows(v2, d, out + 2 * classes, 4 * classes);
      StoreRows(v3, d, out + 3 * classes, 4 * classes);
    }
  }
  return r;
}

// Two or three classes, whole vectors of rows. Returns the rows done.
HWY_INLINE std::size_t ToFewColumns(const float* from, std::size_t rows, std::size_t classes,
                                    float* to, std::size_t stride) {
  const hn::CappedTag<float, 16> d;
  hn::Vec<decltype(d)> v0, v1, v2;
  std::size_t r = 0;
  for (; r + hn::Lanes(d) <= rows; r += hn::Lanes(d)) {
    if (classes == 2) {
      hn::LoadInterleaved2(d, from + 2 * r, v0, v1);
    } else {
      hn::LoadInterleaved3(d, from + 3 * r, v0, v1, v2);
      hn::StoreU(v2, d, to + 2 * stride + r);
    }
    hn::StoreU(v0, d, to + r);
    hn::StoreU(v1, d, to + stride + r);
  }
  return r;
}

HWY_INLINE std::size_t ToRowsOfFew(const float* from, std::size_t stride, std::size_t rows,
                                   std::size_t classes, float* to) {
  const hn::CappedTag<float, 16> d;
  std::size_t r = 0;
  for (; r + hn::Lanes(d) <= rows; r += hn::Lanes(d)) {
    const auto v0 = hn::LoadU(d, from + r), v1 = hn::LoadU(d, from + stride + r);
    if (classes == 2) {
      hn::StoreInterleaved2(v0, v1, d, to + 2 * r);
    } else {
      hn::StoreInterleaved3(v0, v1, hn::LoadU(d, from + 2 * stride + r), d, to + 3 * r);
    }
  }
  return r;
}
#endif  // HWY_TARGET != HWY_SCALAR

void ToColumns(const float* from, std::size_t rows, std::size_t classes, float* to,
               std::size_t stride) {
  std::size_t r = 0;
  if (classes == 1) {
    std::memcpy(to, from, rows * sizeof(float));
    return;
  }
#if HWY_TARGET != HWY_SCALAR
  if (classes < 4) {
    r = ToFewColumns(from, rows, classes, to, stride);
  } else {
    r = ToColumnsBy(Rows(), from, 0, rows, classes, to, stride);
    r = ToColumnsBy(Four(), from, r, rows, classes, to, stride);
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
  if (classes < 4) {
    r = ToRowsOfFew(from, stride, rows, classes, to);
  } else {
    r = ToRowsBy(Rows(), from, 0, stride, rows, classes, to);
    r = ToRowsBy(Four(), from, r, stride, rows, classes, to);
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
