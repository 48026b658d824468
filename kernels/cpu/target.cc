#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/target.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "absl/strings/ascii.h"
#include "kernels/cpu/target.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

const char* Name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(Name);

std::string TargetName() { return absl::AsciiStrToLower(HWY_DYNAMIC_DISPATCH(Name)()); }

}  // namespace softloss::cpu
#endif  // HWY_ONCE
