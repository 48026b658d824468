// c = a + b over floats: what memory allows a kernel that reads two arrays and writes one.
#pragma once

#include <cstddef>

namespace softloss {

// The widest vectors of the machine. Arrays are aligned to 64 bytes.
void PlainTriad(const float* a, const float* b, std::size_t n, float* c);

// The same with stores that pass by the caches.
void StreamingTriad(const float* a, const float* b, std::size_t n, float* c);

}  // namespace softloss
