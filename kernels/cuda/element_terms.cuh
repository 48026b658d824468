// Elementwise losses (kernels/loss.h has the formulas), in fp64.
#pragma once

#include <cmath>

#include "kernels/cuda/class_terms.cuh"

namespace softloss::cuda {

// An element as predicted: s, 1 - s, and -ln of both, each with digits of its own.
struct ElementAt {
  double s, not_s;
  double neg_log_s, neg_log_not_s;
};

__device__ inline ElementAt FromLogit(double x) {
  const double log_term = log1p(exp(-fabs(x)));
  const double linear = fabs(x) + log_term;
  const bool positive = x >= 0;
  return {1 / (1 + exp(-x)), 1 / (1 + exp(x)), positive ? log_term : linear,
          positive ? linear : log_term};
}

__device__ inline ElementAt FromProbability(double x) {
  constexpr double kFloor = 1e-7f;  // kProbabilityFloor
  ElementAt at;
  at.s = fmin(fmax(x, kFloor), 1 - kFloor);
  at.not_s = 1 - at.s;
  at.neg_log_s = at.s > 0.5 ? -log1p(-at.not_s) : -log(at.s);
  at.neg_log_not_s = at.not_s > 0.5 ? -log1p(-at.s) : -log(at.not_s);
  return at;
}

// s - t, from the side where neither it nor 1 - s has lost its digits.
__device__ inline double Distance(const ElementAt& at, double t) {
  return at.s < at.not_s ? at.s - t : (1 - t) - at.not_s;
}

// A term's loss, and s·(1 - s)·∂loss/∂s.
__device__ inline TermAt BinaryCrossEntropyAt(const ElementAt& at, double t, double pos_weight) {
  const double negative = 1 - t;
  const double positive = pos_weight * t;
  return {Weigh(negative, at.neg_log_not_s) + Weigh(positive, at.neg_log_s),
          negative * at.s - positive * at.not_s};
}

struct BinaryCrossEntropyTerm {
  __device__ explicit BinaryCrossEntropyTerm(const DeviceParameters&) {}
  __device__ TermAt operator()(const ElementAt& at, double t, double pos_weight) const {
    return BinaryCrossEntropyAt(at, t, pos_weight);
  }
};

struct BinaryBrierTerm {
  __device__ explicit BinaryBrierTerm(const DeviceParameters&) {}
  __device__ TermAt operator()(const ElementAt& at, double t, double) const {
    const double d = Distance(at, t);
    return {d * d, 2 * d * at.s * at.not_s};
  }
};

struct QualityFocalTerm {
  double beta;
  __device__ explicit QualityFocalTerm(const DeviceParameters& parameters)
      : beta(parameters.beta) {}
  __device__ TermAt operator()(const ElementAt& at, double t, double) const {
    const double bce = BinaryCrossEntropyAt(at, t, 1).loss;
    const double d = Distance(at, t);
    const double distance = fabs(d);
    const double power = pow(distance, beta);
    const double sign = d == 0 ? 0 : copysign(1.0, d);
    const double rate = beta * pow(distance, beta - 1) * sign * at.s * at.not_s;
    return {Weigh(power, bce), power * d + Weigh(rate, bce)};
  }
};

}  // namespace softloss::cuda
