#include "kernels/reference_losses.h"

#include <algorithm>
#include <cmath>

namespace softloss::reference {
namespace {

// t·ln t, where 0·ln 0 = 0. NaN for negative labels, which have no entropy.
Real TLogT(Real t) { return t == 0 ? 0 : t * std::log(t); }

ClassTerm CrossEntropy(const ClassPrediction& at, Real t) {
  return {{Term(t, -at.log_p), Term(std::fabs(t), at.log_p_size)}, {-t, std::fabs(t)}};
}

ClassTerm KlDivergence(const ClassPrediction& at, Real t) {
  ClassTerm term = CrossEntropy(at, t);
  term.loss.value += TLogT(t);
  term.loss.size += std::fabs(TLogT(t));
  return term;
}

ClassTerm ReverseKl(const ClassPrediction& at, Real t, Real floor) {
  const Real log_t = std::log(std::max(t, floor));
  const Real size = Term(at.p, at.log_p_size + std::fabs(log_t));
  return {{Term(at.p, at.log_p - log_t), size}, {Term(at.p, at.log_p - log_t + 1), size + at.p}};
}

ClassTerm JensenShannon(const ClassPrediction& at, Real t, Real beta) {
  if (beta == 0) return KlDivergence(at, t);
  if (beta == 1) return ReverseKl(at, t, 0);
  // Close to 1, M's logarithm is what 1 - M says.
  const Real m = beta * t + (1 - beta) * at.p;
  const Real log_m = m > 0.5L ? std::log1p(beta * (t - 1) - (1 - beta) * at.not_p) : std::log(m);
  const Real slope = (1 - beta) * Term(at.p, at.log_p - log_m);
  const Real slope_size = (1 - beta) * Term(at.p, at.log_p_size + std::fabs(log_m));
  return {{beta * (TLogT(t) - Term(t, log_m)) + slope,
           beta * (std::fabs(TLogT(t)) + Term(std::fabs(t), std::fabs(log_m))) + slope_size},
          {slope, slope_size}};
}

ClassTerm Brier(const ClassPrediction& at, Real t) {
  const Real both = at.p + std::fabs(t);
  return {{(at.p - t) * (at.p - t), both * both}, {2 * at.p * (at.p - t), 2 * at.p * both}};
}

ClassTerm ExpectedFocal(const ClassPrediction& at, Real t, Real gamma) {
  const Real focus = std::pow(at.not_p, gamma);
  // γ·p·(1-p)^(γ-1)·ln p; the quotient tends to -1 where p tends to 1.
  const Real ratio = at.not_p == 0 ? -1 : Term(at.p, at.log_p) / at.not_p;
  const Real rise = gamma * focus * ratio;
  const Real sharpness = 1 + gamma;
  return {{Term(t * focus, -at.log_p), sharpness * Term(std::fabs(t) * focus, at.log_p_size)},
          {t * (rise - focus), sharpness * std::fabs(t) * (std::fabs(rise) + focus)}};
}

ClassTerm Poly1(const ClassPrediction& at, Real t, Real epsilon) {
  ClassTerm term = CrossEntropy(at, t);
  term.loss.value += epsilon * t * at.not_p;
  term.loss.size += std::fabs(epsilon * t) * at.not_p;
  term.slope.value -= epsilon * t * at.p;
  term.slope.size += std::fabs(epsilon * t) * at.p;
  return term;
}

ClassTerm GeneralizedCrossEntropy(const ClassPrediction& at, Real t, Real q) {
  const Real power = std::pow(at.p, q);
  return {{-t * std::expm1(q * at.log_p) / q, std::fabs(t) * (1 + power) / q},
          {-t * power, std::fabs(t) * power}};
}

ClassTerm SymmetricCrossEntropy(const ClassPrediction& at, Real t, Real alpha, Real beta) {
  const ClassTerm forward = CrossEntropy(at, t);
  const Real reverse = -beta * at.p * std::log(std::max(t, Real{1e-4f}));
  return {{Term(alpha, forward.loss.value) + reverse,
           Term(alpha, forward.loss.size) + std::fabs(reverse)},
          {alpha * forward.slope.value + reverse, alpha * forward.slope.size + std::fabs(reverse)}};
}

// s - t from the side where neither it nor 1 - s has lost its digits, and the size of its summands.
Sized Distance(const ElementPrediction& at, Real t) {
  if (at.s < at.not_s) return {at.s - t, at.s + std::fabs(t)};
  return {(1 - t) - at.not_s, at.not_s + std::fabs(1 - t)};
}

ElementTerm BinaryCrossEntropy(const ElementPrediction& at, Real t, Real pos_weight) {
  const Real negative = 1 - t;
  const Real positive = pos_weight * t;
  return {{Term(negative, at.neg_log_not_s.value) + Term(positive, at.neg_log_s.value),
           Term(std::fabs(negative), at.neg_log_not_s.size) +
               Term(std::fabs(positive), at.neg_log_s.size)},
          {(positive + negative) * at.s - positive,
           std::max(Real{1}, pos_weight) * (std::fabs(t) + std::fabs(1 - t))}};
}

ElementTerm BinaryBrier(const ElementPrediction& at, Real t) {
  const Sized d = Distance(at, t);
  const Real rate = 2 * at.s * at.not_s;
  return {{d.value * d.value, d.size * d.size}, {d.value * rate, 2 * d.size * rate}};
}

ElementTerm QualityFocal(const ElementPrediction& at, Real t, Real beta) {
  const ElementTerm bce = BinaryCrossEntropy(at, t, 1);
  const Sized d = Distance(at, t);
  const Real distance = std::fabs(d.value);
  const Real sign = d.value == 0 ? 0 : std::copysign(Real{1}, d.value);
  const Real rate = beta * std::pow(distance, beta - 1) * sign * at.s * at.not_s;
  const Real rate_size = beta * std::pow(d.size, beta - 1) * at.s * at.not_s;
  const Real power = std::pow(distance, beta);
  const Real power_size = (1 + beta) * std::pow(d.size, beta);
  return {{Term(power, bce.loss.value), Term(power_size, bce.loss.size)},
          {power * d.value + Term(rate, bce.loss.value),
           power_size * d.size + (1 + beta) * Term(rate_size, bce.loss.size)}};
}

// A/(both + A + smooth) with A = α·over + β·under.
RegionTerm Similarity(const Overlap& at, Real alpha, Real beta, Real smooth) {
  const Real missed = alpha * at.over + beta * at.under;
  const Real common = at.both + smooth;
  const Real all = common + missed;
  if (all == 0 && missed == 0) return {};  // nothing there, and nothing predicted
  const Real square = all * all;
  // What relative errors of the sums do.
  const Real missed_size = (alpha + beta) * at.distance_size;
  const Real common_size = at.size + smooth;
  const Real all_size = (common_size + missed_size) / std::fabs(all);
  const Real above = alpha * common / square, below = -(beta * common + missed) / square;
  // Infinite labels have no size.
  const auto sized = [](Real value, Real size) {
    return Sized{value, std::isfinite(size) ? size : 0};
  };
  return {
      sized(missed / all,
            (missed_size * std::fabs(common) + common_size * std::fabs(missed)) / square +
                std::fabs(missed / all)),
      sized(above, alpha * common_size / square + 2 * std::fabs(above) * all_size),
      sized(below, (beta * common_size + missed_size) / square + 2 * std::fabs(below) * all_size)};
}

}  // namespace

RegionTerm ScoreRegion(Loss loss, const LossParameters& parameters, const Overlap& overlap) {
  switch (loss) {
    case Loss::kTversky:
      return Similarity(overlap, parameters.alpha, parameters.beta, parameters.smooth);
    default: return Similarity(overlap, 0.5L, 0.5L, Real{parameters.smooth} / 2);
  }
}

ClassTerm ScoreClass(Loss loss, const LossParameters& parameters, const ClassPrediction& at,
                     Real t) {
  switch (loss) {
    case Loss::kKlDivergence: return KlDivergence(at, t);
    case Loss::kReverseKlDivergence: return ReverseKl(at, t, parameters.epsilon);
    case Loss::kJensenShannonDivergence: return JensenShannon(at, t, parameters.beta);
    case Loss::kDistillation: {
      const Real square = Real{parameters.temperature} * parameters.temperature;
      const ClassTerm kl = KlDivergence(at, t);
      return {{square * kl.loss.value, square * kl.loss.size},
              {square * kl.slope.value, square * kl.slope.size}};
    }
    case Loss::kBrier: return Brier(at, t);
    case Loss::kExpectedFocal: return ExpectedFocal(at, t, parameters.gamma);
    case Loss::kPoly1CrossEntropy: return Poly1(at, t, parameters.epsilon);
    case Loss::kGeneralizedCrossEntropy: return GeneralizedCrossEntropy(at, t, parameters.q);
    case Loss::kSymmetricCrossEntropy:
      return SymmetricCrossEntropy(at, t, parameters.alpha, parameters.beta);
    default: return CrossEntropy(at, t);
  }
}

LabelEffect EffectOfLabel(Loss loss, const LossParameters& parameters, const ClassPrediction& at,
                          Real t) {
  const Real square = Real{parameters.temperature} * parameters.temperature;
  const Real size = std::fabs(t), beta = parameters.beta;
  switch (loss) {
    case Loss::kKlDivergence: return {size, 0};
    case Loss::kDistillation: return {square * size, 0};
    case Loss::kReverseKlDivergence: return {at.p, 0};
    case Loss::kJensenShannonDivergence:
      if (beta == 0) return {size, 0};
      return {beta == 1 ? at.p : 0, (1 - beta) * at.p};
    case Loss::kSymmetricCrossEntropy: return {beta * at.p, beta * at.p};
    default: return {};
  }
}

ElementTerm ScoreElement(Loss loss, const LossParameters& parameters, const ElementPrediction& at,
                         Real t, Real pos_weight) {
  switch (loss) {
    case Loss::kBinaryBrier: return BinaryBrier(at, t);
    case Loss::kQualityFocal: return QualityFocal(at, t, parameters.beta);
    default: return BinaryCrossEntropy(at, t, pos_weight);
  }
}

}  // namespace softloss::reference
