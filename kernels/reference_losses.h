// The losses' formulas (kernels/loss.h), one class or element at a time, in long double.
#pragma once

#include "kernels/loss.h"

namespace softloss::reference {

using Real = long double;

// A sum's share: its value and the magnitude by which errors are judged.
struct Sized {
  Real value = 0;
  Real size = 0;
};

// coefficient·value, where a zero coefficient drops the term even if the value is infinite.
inline Real Term(Real coefficient, Real value) {
  return coefficient == 0 ? 0 : coefficient * value;
}

// A class of a row, as predicted: p, and what 1 - p and ln p lose when computed from it.
struct ClassPrediction {
  Real p = 0;
  Real not_p = 1;
  Real log_p = 0;
  Real log_p_size = 0;  // the summands of log_p
};

struct ClassTerm {
  Sized loss;
  Sized slope;  // q = p·∂term/∂p
};
// Without the class weight. `t` is the label after smoothing.
ClassTerm ScoreClass(Loss loss, const LossParameters& parameters, const ClassPrediction& prediction,
                     Real t);

// What a relative change of t moves a class's loss and slope by, beyond what their sizes tell: labels
// that are smoothed or renormalised are rounded to the kernel's type.
struct LabelEffect {
  Real loss = 0, slope = 0;
};
LabelEffect EffectOfLabel(Loss loss, const LossParameters& parameters,
                          const ClassPrediction& prediction, Real t);

// An element, as predicted: s, 1 - s, and -ln of both.
struct ElementPrediction {
  Real s = 0;
  Real not_s = 1;
  Sized neg_log_s, neg_log_not_s;
};

struct ElementTerm {
  Sized loss;
  Sized slope;  // s·(1 - s)·∂loss/∂s
};
// Without weights other than the positive one.
ElementTerm ScoreElement(Loss loss, const LossParameters& parameters,
                         const ElementPrediction& prediction, Real t, Real pos_weight);

// Sums over a region (kernels/loss.h), and the sizes of what they were computed from, which only the
// sizes of a RegionTerm depend on.
struct Overlap {
  Real both = 0, over = 0, under = 0;
  Real size = 0;           // Σ r·(s + |t|)
  Real distance_size = 0;  // Σ r·(the sizes of s - t's summands)
};

struct RegionTerm {
  Sized loss;
  Sized above, below;  // ∂loss/∂s where s > t, and where s < t, without the row weight
};
// A regional loss, without the class weight.
RegionTerm ScoreRegion(Loss loss, const LossParameters& parameters, const Overlap& overlap);

}  // namespace softloss::reference
