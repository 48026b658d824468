// Losses over classes, a class's term each (kernels/loss.h has the formulas), in fp64.
#pragma once

#include <cmath>

#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/types.h"

namespace softloss::cuda {

// A class as predicted; not_p = 1 - p and log_p have digits of their own where p is close to 1.
struct ClassAt {
  double p, not_p, log_p;
};

struct TermAt {
  double loss;
  double slope;  // q = p·∂loss/∂p
};

// Whether p > 0, though it may have underflowed here: down to where the oracle's long double does.
__device__ inline bool IsPositive(const ClassAt& at) { return at.p > 0 || at.log_p >= -11399.4985; }

// coefficient·value, where a zero coefficient drops the term even if the value is infinite.
__device__ inline double Weigh(double coefficient, double value) {
  return coefficient == 0 ? 0 : coefficient * value;
}

// t·ln t, where 0·ln 0 = 0.
__device__ inline double TLogT(double t) { return t == 0 ? 0 : t * log(t); }

// A term T is made of the segment's parameters and gives, without the class weight,
//   TermAt operator()(const ClassAt&, double t) const
struct CrossEntropyTerm {
  __device__ explicit CrossEntropyTerm(const DeviceParameters&) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return {Weigh(t, -at.log_p), -t};
  }
};

// Distillation too: T² times the same.
struct KlDivergenceTerm {
  __device__ explicit KlDivergenceTerm(const DeviceParameters&) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return {Weigh(t, -at.log_p) + TLogT(t), -t};
  }
};

struct DistillationTerm {
  double square;
  __device__ explicit DistillationTerm(const DeviceParameters& parameters)
      : square(parameters.temperature * parameters.temperature) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return {square * (Weigh(t, -at.log_p) + TLogT(t)), -square * t};
  }
};

// p·(ln p - ln t), infinite where p > 0 = t.
__device__ inline TermAt ReverseKl(const ClassAt& at, double t) {
  if (t == 0 && IsPositive(at)) return {Infinity<double>(), Infinity<double>()};
  const double ratio = at.log_p - log(t);
  return {Weigh(at.p, ratio), Weigh(at.p, ratio + 1)};
}

struct ReverseKlTerm {
  double floor;
  __device__ explicit ReverseKlTerm(const DeviceParameters& parameters)
      : floor(parameters.epsilon) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return ReverseKl(at, t > floor ? t : floor);
  }
};

struct JensenShannonTerm {
  double beta;
  __device__ explicit JensenShannonTerm(const DeviceParameters& parameters)
      : beta(parameters.beta) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    if (beta == 0) return {Weigh(t, -at.log_p) + TLogT(t), -t};
    if (beta == 1) return ReverseKl(at, t > 0 ? t : 0.0);
    // Close to 1, M's logarithm is what 1 - M says.
    const double rest = 1 - beta;
    const double m = beta * t + rest * at.p;
    const double log_m = m > 0.5  ? log1p(beta * (t - 1) - rest * at.not_p)
                         : t == 0 ? log1p(-beta) + at.log_p  // however small p is
                                  : log(m);
    const double slope = rest * Weigh(at.p, at.log_p - log_m);
    return {beta * (TLogT(t) - Weigh(t, log_m)) + slope, slope};
  }
};

struct BrierTerm {
  __device__ explicit BrierTerm(const DeviceParameters&) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    // Where p is closer to 1 than it shows, so may t be.
    const double d = at.p > 0.5 ? (1 - t) - at.not_p : at.p - t;
    return {d * d, 2 * at.p * d};
  }
};

struct ExpectedFocalTerm {
  double gamma;
  __device__ explicit ExpectedFocalTerm(const DeviceParameters& parameters)
      : gamma(parameters.gamma) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    const double focus = pow(at.not_p, gamma);
    // γ·p·(1-p)^(γ-1)·ln p; the quotient tends to -1 where p tends to 1.
    const double ratio = at.not_p == 0 ? -1.0 : Weigh(at.p, at.log_p) / at.not_p;
    return {Weigh(t * focus, -at.log_p), t * (gamma * focus * ratio - focus)};
  }
};

struct Poly1Term {
  double epsilon;
  __device__ explicit Poly1Term(const DeviceParameters& parameters) : epsilon(parameters.epsilon) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return {Weigh(t, -at.log_p) + epsilon * t * at.not_p, -t - epsilon * t * at.p};
  }
};

struct GeneralizedCrossEntropyTerm {
  double q;
  __device__ explicit GeneralizedCrossEntropyTerm(const DeviceParameters& parameters)
      : q(parameters.q) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    return {-t * expm1(q * at.log_p) / q, -t * exp(q * at.log_p)};
  }
};

struct SymmetricCrossEntropyTerm {
  double alpha, beta;
  __device__ explicit SymmetricCrossEntropyTerm(const DeviceParameters& parameters)
      : alpha(parameters.alpha), beta(parameters.beta) {}
  __device__ TermAt operator()(const ClassAt& at, double t) const {
    constexpr double kFloor = 1e-4f;
    const double reverse = -beta * at.p * log(t > kFloor ? t : kFloor);
    return {Weigh(alpha, Weigh(t, -at.log_p)) + reverse, -alpha * t + reverse};
  }
};

}  // namespace softloss::cuda
