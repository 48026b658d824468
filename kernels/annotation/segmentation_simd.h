// The one loop over all probabilities of a segmentation.
#pragma once

#include <cstdint>

namespace softloss::annotation {

// Of each of n pixels the likeliest class, the lowest of equals, and its probability; p is the first
// pixel's first class, `stride` values before its second. num_classes is at most 65,536, which is what
// makes a float exact as a class.
void FindLikeliest(const float* p, std::int64_t stride, int num_classes, std::int64_t n,
                   float* best, float* likeliest);
void FindLikeliest(const double* p, std::int64_t stride, int num_classes, std::int64_t n,
                   double* best, double* likeliest);

}  // namespace softloss::annotation
