#include "kernels/cpu/exact.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace softloss::cpu {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A zero coefficient drops its term, infinite or not.
double Term(double coefficient, double value) { return coefficient == 0 ? 0 : coefficient * value; }

}  // namespace

ExactElement ExactSigmoid(double x, double t, double pos_weight) {
  if (std::isnan(x) || std::isnan(t)) return {kNaN, kNaN};
  const double positive = pos_weight * t;
  const double negative = 1 - t;
  const double e = std::exp(-std::fabs(x));
  const double sigmoid = (x >= 0 ? 1 : e) / (1 + e);
  const double log_term = std::log1p(e);
  ExactElement result;
  result.loss = Term(x >= 0 ? negative : positive, std::fabs(x)) + Term(negative, log_term) +
                Term(positive, log_term);
  result.gradient = (positive + negative) * sigmoid - positive;
  return result;
}

double ExactSoftmax(const ExactRow& row, double* gradient) {
  const auto [classes, x, t, class_weight, spec] = row;
  double max = -std::numeric_limits<double>::infinity();
  std::size_t argmax = 0;
  bool is_nan = false;
  double label_sum = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    is_nan |= std::isnan(x[c]) || std::isnan(t[c]);
    label_sum += t[c];
    if (x[c] > max) {
      max = x[c];
      argmax = c;
    }
  }
  if (is_nan || std::isinf(max)) {
    std::fill_n(gradient, classes, kNaN);
    return kNaN;
  }
  double others = 0;  // d - 1
  double loss = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    if (c != argmax) others += std::exp(x[c] - max);
    loss += Term(t[c], max - x[c]);
  }
  loss += label_sum * std::log1p(others);
  for (std::size_t c = 0; c < classes; ++c) {
    gradient[c] = label_sum * (std::exp(x[c] - max) / (1 + others)) - t[c];
  }
  return loss;
}

}  // namespace softloss::cpu
