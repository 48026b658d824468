// Indices out of memory that others may write to at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "layout/dtype.h"

namespace softloss::cpu {

// The integer `i` of `from`, at any alignment, from here on: without the barrier the compiler may read
// again what was checked.
inline std::int64_t LoadOnce(DType dtype, const std::byte* from, std::size_t i) {
  std::int64_t value = 0;
  if (dtype == DType::kI32) {
    std::int32_t narrow;
    std::memcpy(&narrow, from + i * sizeof(narrow), sizeof(narrow));
    value = narrow;
  } else {
    std::memcpy(&value, from + i * sizeof(value), sizeof(value));
  }
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace softloss::cpu
