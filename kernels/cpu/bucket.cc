#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bucket.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/bucket.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/row_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <typename T>
std::size_t Count(const T* x, std::size_t n, T low, T high) {
  const Tag<T> d;
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto v = hn::Load(d, x + i);
    const auto inside = hn::And(hn::Ge(v, hn::Set(d, low)), hn::Le(v, hn::Set(d, high)));
    count += hn::CountTrue(d, hn::Not(inside));
  }
  return count;
}

// Sums in fp64 what `term` gives for the vectors at i, which it may also store.
template <typename T, class Term>
HWY_INLINE double SumVectors(std::size_t n, Term term) {
  const Tag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  WideSum<Tag<T>> sum(d);
  for (std::size_t i = 0; i < n;) {
    auto part = hn::Zero(d);
    const std::size_t end = std::min(n, i + kVectorsPerFlush * lanes);
    for (; i < end; i += lanes) part = hn::Add(part, term(i));
    sum.Add(d, part);
  }
  return sum.Total();
}

template <typename T>
ExponentialSum Exponentials(T* x, std::size_t n, T factor) {
  const Tag<T> d;
  auto max = hn::Load(d, x);
  for (std::size_t i = 0; i < n; i += hn::Lanes(d)) max = hn::Max(max, hn::Load(d, x + i));
  ExponentialSum result;
  const T most = hn::GetLane(hn::MaxOfLanes(d, max));
  result.max = static_cast<double>(most);
  if (!(most > -std::numeric_limits<T>::infinity())) {
    std::memset(x, 0, n * sizeof(T));
    return result;
  }
  const auto origin = hn::Set(d, most), slope = hn::Set(d, factor);
  result.sum = SumVectors<T>(n, [&](std::size_t i) HWY_ATTR {
    const auto u = hn::Mul(hn::Sub(hn::Load(d, x + i), origin), slope);
    const auto e = ExpNonPositive(d, Pack<hn::Vec<Tag<T>>, 1>{{u}}).v[0];
    hn::Store(e, d, x + i);
    return e;
  });
  return result;
}

template <typename T>
double Sum(const T* x, std::size_t n) {
  const Tag<T> d;
  return SumVectors<T>(n, [&](std::size_t i) HWY_ATTR { return hn::Load(d, x + i); });
}

template <typename T>
double ScaleTo(const T* x, std::size_t n, T factor, T* to) {
  const Tag<T> d;
  const std::size_t whole = n / hn::Lanes(d) * hn::Lanes(d);
  const auto by = hn::Set(d, factor);
  double squares = SumVectors<T>(whole, [&](std::size_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::Load(d, x + i), by);
    hn::StoreU(g, d, to + i);
    return hn::Mul(g, g);
  });
  for (std::size_t i = whole; i < n; ++i) {
    const T g = x[i] * factor;
    std::memcpy(reinterpret_cast<std::byte*>(to) + i * sizeof(T), &g, sizeof(T));
    squares += static_cast<double>(g) * static_cast<double>(g);
  }
  return squares;
}

std::size_t CountF32(const float* x, std::size_t n, float low, float high) {
  return Count(x, n, low, high);
}
std::size_t CountF64(const double* x, std::size_t n, double low, double high) {
  return Count(x, n, low, high);
}
ExponentialSum ExponentialsF32(float* x, std::size_t n, float factor) {
  return Exponentials(x, n, factor);
}
ExponentialSum ExponentialsF64(double* x, std::size_t n, double factor) {
  return Exponentials(x, n, factor);
}
double SumF32(const float* x, std::size_t n) { return Sum(x, n); }
double SumF64(const double* x, std::size_t n) { return Sum(x, n); }
double ScaleF32(const float* x, std::size_t n, float factor, float* to) {
  return ScaleTo(x, n, factor, to);
}
double ScaleF64(const double* x, std::size_t n, double factor, double* to) {
  return ScaleTo(x, n, factor, to);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(CountF32);
HWY_EXPORT(CountF64);
HWY_EXPORT(ExponentialsF32);
HWY_EXPORT(ExponentialsF64);
HWY_EXPORT(SumF32);
HWY_EXPORT(SumF64);
HWY_EXPORT(ScaleF32);
HWY_EXPORT(ScaleF64);

std::size_t CountOutside(const float* x, std::size_t n, float low, float high) {
  return HWY_DYNAMIC_DISPATCH(CountF32)(x, n, low, high);
}
std::size_t CountOutside(const double* x, std::size_t n, double low, double high) {
  return HWY_DYNAMIC_DISPATCH(CountF64)(x, n, low, high);
}
ExponentialSum SumExponentials(float* x, std::size_t n, float factor) {
  return HWY_DYNAMIC_DISPATCH(ExponentialsF32)(x, n, factor);
}
ExponentialSum SumExponentials(double* x, std::size_t n, double factor) {
  return HWY_DYNAMIC_DISPATCH(ExponentialsF64)(x, n, factor);
}
double SumOf(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(SumF32)(x, n); }
double SumOf(const double* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(SumF64)(x, n); }
double Scale(const float* x, std::size_t n, float factor, float* to) {
  return HWY_DYNAMIC_DISPATCH(ScaleF32)(x, n, factor, to);
}
double Scale(const double* x, std::size_t n, double factor, double* to) {
  return HWY_DYNAMIC_DISPATCH(ScaleF64)(x, n, factor, to);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
