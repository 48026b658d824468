#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/stream.cc"
#include "hwy/foreach_target.h"

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include <cstdint>
#include <cstring>

#include "kernels/cpu/stream.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Copy(const std::uint8_t* from, std::uint8_t* to, std::size_t size) {
  const hn::CappedTag<std::uint8_t, 64> d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = reinterpret_cast<std::uintptr_t>(to) % lanes == 0 ? 0 : size;
  std::memcpy(to, from, i);
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    const auto low = hn::LoadU(d, from + i), high = hn::LoadU(d, from + i + lanes);
    hn::Stream(low, d, to + i);
    hn::Stream(high, d, to + i + lanes);
  }
  for (; i + lanes <= size; i += lanes) hn::Stream(hn::LoadU(d, from + i), d, to + i);
  std::memcpy(to + i, from + i, size - i);
}

std::size_t Alignment() { return hn::Lanes(hn::CappedTag<std::uint8_t, 64>()); }

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(Copy);
HWY_EXPORT(Alignment);

void StreamCopy(const void* from, void* to, std::size_t size) {
  HWY_DYNAMIC_DISPATCH(Copy)
  (static_cast<const std::uint8_t*>(from), static_cast<std::uint8_t*>(to), size);
}

void FlushStream() { hwy::FlushStream(); }

std::size_t StreamAlignment() { return HWY_DYNAMIC_DISPATCH(Alignment)(); }

}  // namespace softloss::cpu
#endif  // HWY_ONCE
