// What the rows of a leaf give, as arrays, and their sum.
#pragma once

#include <cstddef>

#include "kernels/backend.h"

namespace softloss::cpu {

// Row arrays and strides are multiples of this, which every SIMD width divides.
inline constexpr std::size_t kRowQuantum = 16;

// RowArrays::unusual. kCount: what the row holds is counted, and it is scored again where that is too
// large for vectors (exact.h). kRescore: it is scored again in any case.
inline constexpr int kCount = 1;
inline constexpr int kRescore = 2;

// Arrays [rows rounded up to kRowQuantum], aligned to 64 bytes.
template <typename T>
struct RowArrays {
  // Row weight: > 0 active; 0 valid, but contents are not looked at; < 0 not valid.
  T* row_weight = nullptr;
  T* loss = nullptr;             // with the row weight; 0 for inactive rows
  T* label_sum = nullptr;        // Σ t as given: what the normalisation check is about
  T* class_weighted = nullptr;   // Σ class_weight·t before smoothing
  T* gradient_square = nullptr;  // Σ g², without the row weight, before rounding to the wire
  T* unusual = nullptr;          // 0, kCount or kRescore

  RowArrays From(std::size_t row) const {
    return {row_weight + row,      loss + row,   label_sum + row, class_weighted + row,
            gradient_square + row, unusual + row};
  }
};

// Adds the active ones of `n` rows to `sum`, in an order that depends on n alone, and counts valid
// rows, non-finite losses, and label sums further from 1 than `tolerance`. Entries from n up to the
// next multiple of kRowQuantum must have a negative row weight.
void SumRows(std::size_t n, const RowArrays<float>& rows, double tolerance, LeafSum& sum,
             Tally& tally);
void SumRows(std::size_t n, const RowArrays<double>& rows, double tolerance, LeafSum& sum,
             Tally& tally);

// loss[i] = row_weight[i]·(dot[i] + scored_sum[i]·log1p(others[i])) for active rows, else 0.
void FinishLosses(std::size_t n, const RowArrays<float>& rows, const float* dot,
                  const float* scored_sum, const float* others);
void FinishLosses(std::size_t n, const RowArrays<double>& rows, const double* dot,
                  const double* scored_sum, const double* others);

}  // namespace softloss::cpu
