#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/annotation/segmentation_simd.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <cstdint>

#include "kernels/annotation/segmentation_simd.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::annotation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename D, typename T = hn::TFromD<D>>
HWY_INLINE void OfLanes(D d, const T* p, std::int64_t stride, int num_classes, T* best,
                        T* likeliest) {
  auto top = hn::LoadU(d, p), at = hn::Zero(d);
  for (int k = 1; k < num_classes; ++k) {
    const auto v = hn::LoadU(d, p + k * stride);
    const auto better = hn::Gt(v, top);
    top = hn::IfThenElse(better, v, top);
    at = hn::IfThenElse(better, hn::Set(d, static_cast<T>(k)), at);
  }
  hn::StoreU(top, d, best);
  hn::StoreU(at, d, likeliest);
}

template <typename T>
HWY_INLINE void Likeliest(const T* p, std::int64_t stride, int num_classes, std::int64_t n, T* best,
                          T* likeliest) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    OfLanes(d, p + i, stride, num_classes, best + i, likeliest + i);
  }
  for (; i < n; ++i) {
    OfLanes(hn::CappedTag<T, 1>(), p + i, stride, num_classes, best + i, likeliest + i);
  }
}

void Likeliest32(const float* p, std::int64_t stride, int num_classes, std::int64_t n, float* best,
                 float* likeliest) {
  Likeliest(p, stride, num_classes, n, best, likeliest);
}
void Likeliest64(const double* p, std::int64_t stride, int num_classes, std::int64_t n,
                 double* best, double* likeliest) {
  Likeliest(p, stride, num_classes, n, best, likeliest);
}

}  // namespace softloss::annotation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::annotation {
HWY_EXPORT(Likeliest32);
HWY_EXPORT(Likeliest64);

void FindLikeliest(const float* p, std::int64_t stride, int num_classes, std::int64_t n,
                   float* best, float* likeliest) {
  HWY_DYNAMIC_DISPATCH(Likeliest32)(p, stride, num_classes, n, best, likeliest);
}

void FindLikeliest(const double* p, std::int64_t stride, int num_classes, std::int64_t n,
                   double* best, double* likeliest) {
  HWY_DYNAMIC_DISPATCH(Likeliest64)(p, stride, num_classes, n, best, likeliest);
}

}  // namespace softloss::annotation
#endif  // HWY_ONCE
