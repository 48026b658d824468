#include "kernels/reference_regions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/row_semantics.h"

namespace softloss::reference {
namespace {

constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();

// An element as predicted and labelled.
struct Element {
  bool counts = false;
  Real s = 0, rate = 0;  // rate = ∂s/∂x, of sigmoids and probabilities
  Real t = 0;
  Real distance = 0;       // s - t
  Real distance_size = 0;  // the size of what it is the difference of
};

struct Predicted {
  Real weight = 0;
  std::vector<Element> elements;  // [classes]
};

bool Exists(const LossSpec& spec, std::size_t c) {
  return spec.class_mask.empty() || spec.class_mask[c] != 0;
}

bool IsIgnored(const LossSpec& spec, Real t) {
  if (!spec.ignore_value.has_value()) return false;
  return t == Real{*spec.ignore_value} || (std::isnan(t) && std::isnan(*spec.ignore_value));
}

bool IsScorable(const LossSpec& spec, Real x) {
  if (spec.prediction_kind == PredictionKind::kProbabilities) return x >= 0 && x <= 1;
  return !std::isnan(x);
}

// Softmax of the classes that exist.
std::vector<Real> Softmax(const LossSpec& spec, const std::vector<Real>& x) {
  Real max = -std::numeric_limits<Real>::infinity(), sum = 0;
  bool scorable = true;
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (!Exists(spec, c)) continue;
    max = std::max(max, x[c]);
    scorable &= IsScorable(spec, x[c]);
  }
  if (!scorable || std::isinf(max)) return std::vector<Real>(x.size(), kNaN);
  std::vector<Real> p(x.size());
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (Exists(spec, c)) sum += p[c] = std::exp(x[c] - max);
  }
  for (Real& v : p) v /= sum;
  return p;
}

class ImageScorer {
 public:
  ImageScorer(const ScoreKey& key, const LossSpec& spec)
      : key_(key),
        spec_(spec),
        classes_(static_cast<std::size_t>(key.classes)),
        exclusive_(key.activation == Activation::kSoftmax),
        logits_(spec.prediction_kind == PredictionKind::kLogits),
        tie_(key.prediction == DType::kF64 ? 1e-14L : 1e-6L),
        least_rate_(key.prediction == DType::kF64 ? 0x1p-960L : 0x1p-100L) {}

  Image Run(absl::Span<const Position> positions) {
    image_.loss.resize(classes_);
    image_.terms.resize(classes_);
    image_.gradient.assign(positions.size(), std::vector<Real>(classes_));
    image_.gradient_scale = image_.gradient;
    std::vector<Predicted> predicted;
    for (const Position& position : positions) predicted.push_back(Predict(position));
    std::vector<RegionTerm> terms(classes_);
    for (std::size_t c = 0; c < classes_; ++c) terms[c] = ScoreClass(c, predicted);
    for (std::size_t r = 0; r < positions.size(); ++r) Differentiate(r, predicted[r], terms);
    return std::move(image_);
  }

 private:
  Predicted Predict(const Position& position) {
    Predicted row;
    row.elements.resize(classes_);
    if (!position.counts) return row;
    bool ignored = exclusive_;
    for (std::size_t c = 0; c < classes_; ++c) {
      if (!Exists(spec_, c)) continue;
      if (!IsIgnored(spec_, position.t[c])) ignored = false;
      row.elements[c].counts = exclusive_ || !IsIgnored(spec_, position.t[c]);
    }
    if (ignored) return {0, std::vector<Element>(classes_)};
    row.weight = position.weight;
    if (row.weight == 0) return row;
    const std::vector<Real> t = Targets(position.t);
    const std::vector<Real> p =
        exclusive_ && logits_ ? Softmax(spec_, position.x) : std::vector<Real>(classes_);
    for (std::size_t c = 0; c < classes_; ++c) {
      Element& at = row.elements[c];
      if (!at.counts) continue;
      TallyElement(position.x[c], position.t[c]);
      at.t = t[c];
      PredictElement(position.x[c], p[c], &at);
    }
    return row;
  }

  void TallyElement(Real x, Real t) {
    image_.tally.nonfinite_predictions += !std::isfinite(x) || !IsScorable(spec_, x);
    image_.tally.nonfinite_labels += !std::isfinite(t);
    image_.tally.out_of_range_labels += std::isfinite(t) && (t < 0 || t > 1);
  }

  // Labels as they are scored.
  std::vector<Real> Targets(std::vector<Real> t) {
    Real sum = 0, count = 2;
    if (exclusive_) {
      count = 0;
      for (std::size_t c = 0; c < classes_; ++c) {
        if (Exists(spec_, c)) sum += t[c], ++count;
      }
      image_.tally.unnormalized_labels +=
          std::fabs(sum - 1) > NormalizationTolerance(key_.label, key_.classes);
    }
    const Real epsilon = spec_.label_smoothing;
    for (Real& v : t) {
      if (spec_.label_check == LabelCheck::kRenormalize && sum != 0) v /= sum;
      if (epsilon > 0) v = (1 - epsilon) * v + epsilon / count;
    }
    return t;
  }

  void PredictElement(Real x, Real p, Element* at) const {
    at->s = p;
    if (!logits_) {
      at->s = IsScorable(spec_, x) ? x : kNaN;
      at->rate = 1;
    } else if (!exclusive_) {
      at->s = std::isnan(x) ? kNaN : 1 / (1 + std::exp(-x));
      const Real not_s = 1 / (1 + std::exp(x));
      at->rate = at->s * not_s;
      if (not_s < at->s) {  // the side on which nothing has lost its digits
        at->distance = (1 - at->t) - not_s;
        at->distance_size = not_s + std::fabs(1 - at->t);
        return;
      }
    }
    at->distance = at->s - at->t;
    at->distance_size = at->s + std::fabs(at->t);
  }

  RegionTerm ScoreClass(std::size_t c, const std::vector<Predicted>& rows) {
    Overlap overlap;
    bool valid = false;
    for (const Predicted& row : rows) {
      const Element& at = row.elements[c];
      valid |= at.counts;
      if (!at.counts || row.weight == 0) continue;
      const Real over = at.distance > 0 ? at.distance : 0;
      overlap.both += row.weight * (at.distance > 0 ? at.t : at.s);
      overlap.over += row.weight * over;
      overlap.under += row.weight * (over - at.distance);
      overlap.size += row.weight * std::max(at.s + std::fabs(at.t), least_rate_);
      overlap.distance_size += row.weight * std::max(at.distance_size, least_rate_);
    }
    if (!valid) return {};
    RegionTerm term = ScoreRegion(spec_.loss, ParametersOf(spec_), overlap);
    const Real weight = spec_.class_weight.empty() ? 1 : spec_.class_weight[c];
    for (Sized* part : {&term.loss, &term.above, &term.below}) {
      *part = {Term(weight, part->value), Term(weight, part->size)};
    }
    ++image_.tally.valid;
    image_.tally.nonfinite_losses += !std::isfinite(term.loss.value);
    image_.weight += weight;
    image_.loss[c] = term.loss.value;
    image_.terms[c] = term.loss.size;
    return term;
  }

  // ∂L/∂s of an element, where L's slope jumps within the error of s by that.
  Sized SlopeAt(const Element& at, const RegionTerm& term) const {
    const Real size = std::max(term.above.size, term.below.size);
    const Real jump = std::fabs(term.above.value - term.below.value);
    const bool tied = std::fabs(at.distance) <= tie_ * at.distance_size;
    const Real value = at.distance > 0   ? term.above.value
                       : at.distance < 0 ? term.below.value
                                         : (term.above.value + term.below.value) / 2;
    return {value, tied ? size + jump * 10 / tie_ : size};
  }

  void Differentiate(std::size_t r, const Predicted& row, const std::vector<RegionTerm>& terms) {
    if (row.weight == 0) return;
    std::vector<Sized> slope(classes_);
    Sized pull;  // Σ p·∂L/∂p
    for (std::size_t c = 0; c < classes_; ++c) {
      const Element& at = row.elements[c];
      if (!at.counts) continue;
      slope[c] = SlopeAt(at, terms[c]);
      pull.value += at.s * slope[c].value;
      pull.size += std::max(at.s, least_rate_) * slope[c].size;
    }
    for (std::size_t c = 0; c < classes_; ++c) {
      const Element& at = row.elements[c];
      if (!at.counts) continue;
      Real& g = image_.gradient[r][c];
      Real& scale = image_.gradient_scale[r][c];
      if (exclusive_ && logits_) {
        g = row.weight * at.s * (slope[c].value - pull.value);
        scale = row.weight * pull.size;
      } else {
        g = row.weight * slope[c].value * at.rate;
        scale = row.weight * slope[c].size * std::max(at.rate, logits_ ? least_rate_ : 0);
      }
    }
  }

  const ScoreKey& key_;
  const LossSpec& spec_;
  const std::size_t classes_;
  const bool exclusive_, logits_;
  const Real tie_;         // how close s and t are if a kernel may not tell which is larger
  const Real least_rate_;  // below that exponentials underflow
  Image image_;
};

}  // namespace

Image ScoreImage(const ScoreKey& key, const LossSpec& spec, absl::Span<const Position> positions) {
  return ImageScorer(key, spec).Run(positions);
}

}  // namespace softloss::reference
