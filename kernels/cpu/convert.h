// Between the dtypes of the wire and the type that kernels compute in (float or double).
// Every conversion rounds once, to nearest even, and gives the same bits at any position.
#pragma once

#include <cstddef>

#include "layout/dtype.h"

namespace softloss::cpu {

// How u8 turns into a number.
enum class U8 { kDivideBy255, kCount };

// `from` holds `n` elements of a float dtype or u8, at any alignment.
void Decode(DType dtype, U8 u8, const std::byte* from, std::size_t n, float* to);
void Decode(DType dtype, U8 u8, const std::byte* from, std::size_t n, double* to);

// `to` receives `n` elements of a float dtype, at any alignment.
void Encode(const float* from, std::size_t n, DType dtype, std::byte* to);
void Encode(const double* from, std::size_t n, DType dtype, std::byte* to);

}  // namespace softloss::cpu
