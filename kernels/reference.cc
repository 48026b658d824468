#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/half.h"
#include "kernels/row_semantics.h"

namespace softloss::reference {
namespace {

template <typename T>
T Load(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void Store(T value, std::byte* data, std::int64_t index) {
  std::memcpy(data + index * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

std::size_t LossesPerRow(const ScoreKey& key) {
  return IsElementwise(key.loss) ? static_cast<std::size_t>(key.classes) : 1;
}

Real ClassWeight(const LossSpec& spec, std::size_t c) {
  return spec.class_weight.empty() ? 1 : spec.class_weight[c];
}

Real PosWeight(const LossSpec& spec, std::size_t c) {
  if (spec.pos_weight.empty()) return 1;
  return spec.pos_weight[spec.pos_weight.size() == 1 ? 0 : c];
}

bool IsIgnored(const LossSpec& spec, Real t) {
  if (!spec.ignore_value.has_value()) return false;
  return t == Real{*spec.ignore_value} || (std::isnan(t) && std::isnan(*spec.ignore_value));
}

bool Exists(const LossSpec& spec, std::size_t c) {
  return spec.class_mask.empty() || spec.class_mask[c] != 0;
}

// What a prediction must be to be scored at all.
bool IsScorable(const LossSpec& spec, Real x) {
  if (spec.prediction_kind == PredictionKind::kProbabilities) return x >= 0 && x <= 1;
  return !std::isnan(x);
}

void TallyElement(const LossSpec& spec, Real x, Real t, Tally* tally) {
  tally->nonfinite_predictions += !std::isfinite(x) || !IsScorable(spec, x);
  tally->nonfinite_labels += !std::isfinite(t);
  tally->out_of_range_labels += std::isfinite(t) && (t < 0 || t > 1);
}

ElementPrediction PredictElement(const LossSpec& spec, Real x) {
  ElementPrediction at;
  if (spec.prediction_kind == PredictionKind::kProbabilities) {
    at.s = std::clamp(x, Real{kProbabilityFloor}, 1 - Real{kProbabilityFloor});
    at.not_s = 1 - at.s;
    at.neg_log_s = {-std::log(at.s), -std::log(at.s)};
    at.neg_log_not_s = {-std::log(at.not_s), -std::log(at.not_s)};
    return at;
  }
  at.s = 1 / (1 + std::exp(-x));
  at.not_s = 1 / (1 + std::exp(x));
  const Real log_term = std::log1p(std::exp(-std::fabs(x)));
  const Real linear = std::fabs(x) + log_term;
  at.neg_log_s = x >= 0 ? Sized{log_term, log_term} : Sized{linear, linear};
  at.neg_log_not_s = x >= 0 ? Sized{linear, linear} : Sized{log_term, log_term};
  // The smoothed label is rounded to the kernel's type, so the smaller coefficient loses digits.
  if (spec.label_smoothing > 0) at.neg_log_s.size = at.neg_log_not_s.size = linear;
  return at;
}

void ScoreElementOf(const LossSpec& spec, std::size_t c, Real x, Real t, Real row_weight,
                    Row* row) {
  const Real weight = row_weight * ClassWeight(spec, c);
  const Real epsilon = spec.label_smoothing;
  if (epsilon > 0) t = (1 - epsilon) * t + epsilon / 2;
  if (!IsScorable(spec, x) || std::isnan(t)) {
    row->loss[c] = row->gradient[c] = std::numeric_limits<Real>::quiet_NaN();
    return;
  }
  const ElementPrediction at = PredictElement(spec, x);
  ElementTerm term = ScoreElement(spec.loss, ParametersOf(spec), at, t, PosWeight(spec, c));
  if (spec.prediction_kind == PredictionKind::kProbabilities) {
    term.slope.value /= at.s * at.not_s;
    term.slope.size /= at.s * at.not_s;
  }
  row->loss[c] = Term(weight, term.loss.value);
  row->terms[c] = Term(weight, term.loss.size);
  row->gradient[c] = weight * term.slope.value;
  row->gradient_scale[c] = weight * term.slope.size;
}

// The classes that exist, their targets smoothed.
struct Classes {
  std::vector<std::size_t> index;
  std::vector<Real> t, weight;
  std::vector<ClassPrediction> at;
  Real log_sum = 0, log_sum_size = 0;  // of the exponentials, and its summands
  bool labels_rounded = false;         // t was computed, so that a kernel rounds it
};

// False if the row holds what cannot be scored.
bool Predict(const LossSpec& spec, absl::Span<const Real> x, Classes* row) {
  const std::size_t n = row->index.size();
  row->at.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (!IsScorable(spec, x[row->index[i]]) || std::isnan(row->t[i])) return false;
  }
  if (spec.prediction_kind == PredictionKind::kProbabilities) {
    for (std::size_t i = 0; i < n; ++i) {
      const Real p = std::max(x[row->index[i]], Real{kProbabilityFloor});
      row->at[i] = {p, 1 - p, std::log(p), -std::log(p)};
    }
    return true;
  }
  const Real temperature = ParametersOf(spec).temperature;
  std::vector<Real> z(n);
  for (std::size_t i = 0; i < n; ++i) z[i] = x[row->index[i]] / temperature;
  const auto argmax = static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin());
  const Real max = z[argmax];
  if (std::isinf(max)) return false;
  // d = 1 + the sum without the maximum, so that ln d keeps its digits where d is close to 1.
  Real others = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (i != argmax) others += std::exp(z[i] - max);
  }
  const Real log_d = std::log1p(others);
  for (std::size_t i = 0; i < n; ++i) {
    const Real p = std::exp(z[i] - max) / (1 + others);
    row->at[i] = {p, i == argmax ? others / (1 + others) : 1 - p, (z[i] - max) - log_d,
                  (max - z[i]) + log_d};
  }
  row->log_sum = max + log_d;
  row->log_sum_size = std::fabs(max) + log_d;
  return true;
}

void ScoreClasses(const LossSpec& spec, absl::Span<const Real> x, Real row_weight, Classes classes,
                  Row* row) {
  const LossParameters parameters = ParametersOf(spec);
  const bool logits = spec.prediction_kind == PredictionKind::kLogits;
  if (!Predict(spec, x, &classes)) {
    row->loss[0] = std::numeric_limits<Real>::quiet_NaN();
    for (std::size_t c : classes.index) row->gradient[c] = row->loss[0];
    return;
  }
  const std::size_t n = classes.index.size();
  std::vector<Sized> slope(n);
  Sized loss, sum;
  for (std::size_t i = 0; i < n; ++i) {
    ClassTerm term = ScoreClass(spec.loss, parameters, classes.at[i], classes.t[i]);
    if (classes.labels_rounded) {
      const LabelEffect effect = EffectOfLabel(spec.loss, parameters, classes.at[i], classes.t[i]);
      term.loss.size += effect.loss;
      term.slope.size += effect.slope;
    }
    const Real weight = classes.weight[i];
    loss.value += Term(weight, term.loss.value);
    loss.size += Term(weight, term.loss.size);
    slope[i] = {Term(weight, term.slope.value), Term(weight, term.slope.size)};
    sum.value += slope[i].value;
    sum.size += slope[i].size;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t c = classes.index[i];
    const Real p = classes.at[i].p;
    if (!logits) {
      row->gradient[c] = row_weight * slope[i].value / p;
      row->gradient_scale[c] = row_weight * slope[i].size / p;
      continue;
    }
    const Real z = 2 * parameters.z_loss * classes.log_sum;
    const Real z_size = 2 * parameters.z_loss * classes.log_sum_size;
    row->gradient[c] =
        row_weight * (slope[i].value - p * sum.value + z * p) / parameters.temperature;
    row->gradient_scale[c] = row_weight * (sum.size + z_size) / parameters.temperature;
  }
  row->loss[0] = row_weight * (loss.value + parameters.z_loss * classes.log_sum * classes.log_sum);
  row->terms[0] =
      row_weight * (loss.size + parameters.z_loss * classes.log_sum_size * classes.log_sum_size);
}

Row MakeRow(const ScoreKey& key) {
  const auto classes = static_cast<std::size_t>(key.classes);
  Row row;
  row.loss.resize(LossesPerRow(key));
  row.terms.resize(LossesPerRow(key));
  row.gradient.resize(classes);
  row.gradient_scale.resize(classes);
  return row;
}

Row ScoreElementwise(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
                     absl::Span<const Real> t, Real row_weight) {
  Row row = MakeRow(key);
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (!Exists(spec, c) || IsIgnored(spec, t[c])) continue;
    ++row.tally.valid;
    if (row_weight == 0) continue;
    row.weight += row_weight * ClassWeight(spec, c);
    row.weight_terms = row.weight;
    TallyElement(spec, x[c], t[c], &row.tally);
    ScoreElementOf(spec, c, x[c], t[c], row_weight, &row);
    row.tally.nonfinite_losses += !std::isfinite(row.loss[c]);
  }
  return row;
}

Row ScoreOverClasses(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
                     absl::Span<const Real> t, Real row_weight) {
  Row row = MakeRow(key);
  Classes classes;
  bool ignored = true;
  Real sum = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (!Exists(spec, c)) continue;
    classes.index.push_back(c);
    ignored &= IsIgnored(spec, t[c]);
    sum += t[c];
  }
  if (ignored) return row;
  row.tally.valid = 1;
  if (row_weight == 0) return row;

  // A class id of a class that does not exist leaves a row without a label.
  if (key.label.kind != LabelKind::kClassId || sum == 0) {
    row.tally.unnormalized_labels =
        std::fabs(sum - 1) > NormalizationTolerance(key.label, key.classes);
  }
  const bool renormalize = spec.label_check == LabelCheck::kRenormalize && sum != 0;
  const Real epsilon = spec.label_smoothing;
  const auto count = static_cast<Real>(classes.index.size());
  classes.labels_rounded = renormalize || epsilon > 0;
  for (std::size_t c : classes.index) {
    TallyElement(spec, x[c], t[c], &row.tally);
    const Real class_weight = ClassWeight(spec, c);
    Real target = renormalize ? t[c] / sum : t[c];
    row.weight += row_weight * class_weight * target;
    row.weight_terms += std::fabs(row_weight * class_weight * target);
    if (epsilon > 0) target = (1 - epsilon) * target + epsilon / count;
    classes.t.push_back(target);
    classes.weight.push_back(class_weight);
  }
  ScoreClasses(spec, x, row_weight, std::move(classes), &row);
  row.tally.nonfinite_losses = !std::isfinite(row.loss[0]);
  return row;
}

}  // namespace

Real LoadFloat(DType dtype, const std::byte* data, std::int64_t index) {
  switch (dtype) {
    case DType::kF32: return Load<float>(data, index);
    case DType::kF16: return F16ToFloat(Load<std::uint16_t>(data, index));
    case DType::kBF16: return BF16ToFloat(Load<std::uint16_t>(data, index));
    case DType::kF64: return Load<double>(data, index);
    default: return Load<std::uint8_t>(data, index);
  }
}

std::int64_t LoadInteger(DType dtype, const std::byte* data, std::int64_t index) {
  return dtype == DType::kI32 ? Load<std::int32_t>(data, index) : Load<std::int64_t>(data, index);
}

void StoreFloat(DType dtype, Real value, std::byte* data, std::int64_t index) {
  switch (dtype) {
    case DType::kF16: return Store(ToF16(value), data, index);
    case DType::kBF16: return Store(ToBF16(value), data, index);
    case DType::kF64: return Store(static_cast<double>(value), data, index);
    default: return Store(static_cast<float>(value), data, index);
  }
}

std::vector<Real> DecodeLabels(const ScoreKey& key, absl::Span<const Real> raw,
                               absl::Span<const std::uint8_t> class_mask) {
  std::vector<Real> t(raw.begin(), raw.end());
  for (std::size_t c = 0; c < class_mask.size(); ++c) {
    if (class_mask[c] == 0) t[c] = 0;
  }
  if (key.label.dtype == DType::kU8) {
    const Real sum = std::accumulate(t.begin(), t.end(), Real{0});
    const Real divisor = key.label.scale == LabelScale::kRowSum ? std::max(sum, Real{1}) : 255;
    for (Real& v : t) v /= divisor;
  }
  for (Real& v : t) {
    v = key.prediction == DType::kF64 ? Real{static_cast<double>(v)} : Real{static_cast<float>(v)};
  }
  return t;
}

Row ScoreRow(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
             absl::Span<const Real> t, Real row_weight) {
  return IsElementwise(key.loss) ? ScoreElementwise(key, spec, x, t, row_weight)
                                 : ScoreOverClasses(key, spec, x, t, row_weight);
}

Row SkippedRow(const ScoreKey& key) { return MakeRow(key); }

}  // namespace softloss::reference
