#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/triad.cc"
#include "hwy/foreach_target.h"

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include "tests/bench/triad.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;

template <bool kStreaming>
void Triad(const float* a, const float* b, std::size_t n, float* c) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto low = hn::Add(hn::Load(d, a + i), hn::Load(d, b + i));
    const auto high = hn::Add(hn::Load(d, a + i + lanes), hn::Load(d, b + i + lanes));
    if constexpr (kStreaming) {
      hn::Stream(low, d, c + i);
      hn::Stream(high, d, c + i + lanes);
    } else {
      hn::Store(low, d, c + i);
      hn::Store(high, d, c + i + lanes);
    }
  }
  for (; i < n; ++i) c[i] = a[i] + b[i];
  if constexpr (kStreaming) hwy::FlushStream();
}

void Plain(const float* a, const float* b, std::size_t n, float* c) { Triad<false>(a, b, n, c); }
void Streaming(const float* a, const float* b, std::size_t n, float* c) { Triad<true>(a, b, n, c); }

}  // namespace softloss::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss {

HWY_EXPORT(Plain);
HWY_EXPORT(Streaming);

void PlainTriad(const float* a, const float* b, std::size_t n, float* c) {
  HWY_DYNAMIC_DISPATCH(Plain)(a, b, n, c);
}
void StreamingTriad(const float* a, const float* b, std::size_t n, float* c) {
  HWY_DYNAMIC_DISPATCH(Streaming)(a, b, n, c);
}

}  // namespace softloss
#endif  // HWY_ONCE
