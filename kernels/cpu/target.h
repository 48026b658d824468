// Which SIMD target the kernels run on.
#pragma once

#include <string>

namespace softloss::cpu {

// "avx2", "avx3", "sse4", …: the one that dispatch has chosen, or will.
std::string TargetName();

}  // namespace softloss::cpu
