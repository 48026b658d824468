// Between rows one after another, [rows][classes], and the columns of softmax_columns.h.
#pragma once

#include <cstddef>

namespace softloss::cpu {

// to[c·stride + r] = from[r·classes + c]. `from` may be unaligned.
void RowsToColumns(const float* from, std::size_t rows, std::size_t classes, float* to,
                   std::size_t stride);
void RowsToColumns(const double* from, std::size_t rows, std::size_t classes, double* to,
                   std::size_t stride);

// to[r·classes + c] = from[c·stride + r]. `to` may be unaligned.
void ColumnsToRows(const float* from, std::size_t stride, std::size_t rows, std::size_t classes,
                   float* to);
void ColumnsToRows(const double* from, std::size_t stride, std::size_t rows, std::size_t classes,
                   double* to);

}  // namespace softloss::cpu
