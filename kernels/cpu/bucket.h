// The classes outside a sparse label as one: the passes over a long row that this takes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softloss::cpu {

// Rows are aligned for vectors and padded to a multiple of kRowQuantum.

// How many of n values, padding included, are not in [low, high], NaN among them.
std::size_t CountOutside(const float* x, std::size_t n, float low, float high);
std::size_t CountOutside(const double* x, std::size_t n, double low, double high);

// The logarithm of a sum of exponentials, as max + ln(sum).
struct ExponentialSum {
  double max = 0;
  double sum = 0;
};

// Replaces x by e = exp((x - max)·factor), and sums them; values of -infinity give 0. No NaN.
ExponentialSum SumExponentials(float* x, std::size_t n, float factor);
ExponentialSum SumExponentials(double* x, std::size_t n, double factor);

double SumOf(const float* x, std::size_t n);
double SumOf(const double* x, std::size_t n);

// x·factor to `to`, of any alignment, [n] without padding. Returns the sum of the squares.
double Scale(const float* x, std::size_t n, float factor, float* to);
double Scale(const double* x, std::size_t n, double factor, double* to);

}  // namespace softloss::cpu
