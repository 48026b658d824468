#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

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

// coefficient·value, where a zero coefficient drops the term even if the value is infinite.
Real Term(Real coefficient, Real value) { return coefficient == 0 ? 0 : coefficient * value; }

void TallyElement(Real x, Real t, Tally* tally) {
  tally->nonfinite_predictions += !std::isfinite(x);
  tally->nonfinite_labels += !std::isfinite(t);
  tally->out_of_range_labels += std::isfinite(t) && (t < 0 || t > 1);
}

void ScoreSigmoidElement(const LossSpec& spec, std::size_t c, Real x, Real t, Real row_weight,
                         Row* row) {
  const Real weight = row_weight * ClassWeight(spec, c);
  const Real pos_weight = PosWeight(spec, c);
  const Real epsilon = spec.label_smoothing;
  if (epsilon > 0) t = (1 - epsilon) * t + epsilon / 2;

  const Real negative = weight * (1 - t);
  const Real positive = weight * pos_weight * t;
  const Real log_term = std::log1p(std::exp(-std::fabs(x)));
  const Real linear = Term(x >= 0 ? negative : positive, std::fabs(x));
  const Real rest = Term(negative, log_term) + Term(positive, log_term);
  const Real sigmoid = 1 / (1 + std::exp(-x));

  // Without it, NaN logits under zero coefficients would pass for zeros.
  const Real poison = std::isnan(x) || std::isnan(t) ? std::numeric_limits<Real>::quiet_NaN() : 0;
  row->loss[c] = linear + rest + poison;
  row->gradient[c] = (positive + negative) * sigmoid - positive + poison;

  // The smoothed label is rounded to the kernel's type, so the smaller coefficient loses digits.
  const Real linear_scale =
      epsilon > 0 ? (std::fabs(negative) + std::fabs(positive)) * std::fabs(x) : std::fabs(linear);
  row->terms[c] = linear_scale + (std::fabs(negative) + std::fabs(positive)) * std::fabs(log_term);
  row->gradient_scale[c] =
      weight * std::max(Real{1}, pos_weight) * (std::fabs(t) + std::fabs(1 - t));
}

void ScoreSoftmaxRow(absl::Span<const Real> x, absl::Span<const Real> t, Real row_weight,
                     Row* row) {
  const std::size_t classes = x.size();
  Real max = -std::numeric_limits<Real>::infinity();
  std::size_t argmax = 0;
  bool is_nan = false;
  Real label_sum = 0;
  Real label_size = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    is_nan |= std::isnan(x[c]) || std::isnan(t[c]);
    label_sum += t[c];
    label_size += std::fabs(t[c]);
    if (x[c] > max) {
      max = x[c];
      argmax = c;
    }
  }
  if (is_nan || std::isinf(max)) {
    row->loss[0] = std::numeric_limits<Real>::quiet_NaN();
    std::fill(row->gradient.begin(), row->gradient.end(), row->loss[0]);
    return;
  }
  // d = 1 + the sum without the maximum, so that ln d keeps its digits where d is close to 1.
  Real others = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    if (c != argmax) others += std::exp(x[c] - max);
  }
  const Real log_d = std::log1p(others);
  Real loss = label_sum * log_d;
  Real terms = std::fabs(loss);
  for (std::size_t c = 0; c < classes; ++c) {
    const Real term = Term(t[c], max - x[c]);
    loss += term;
    terms += std::fabs(term);
    const Real p = std::exp(x[c] - max) / (1 + others);
    row->gradient[c] = row_weight * (label_sum * p - t[c]);
    row->gradient_scale[c] = row_weight * label_size;
  }
  row->loss[0] = row_weight * loss;
  row->terms[0] = row_weight * terms;
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
    if (IsIgnored(spec, t[c])) continue;
    ++row.tally.valid;
    if (row_weight == 0) continue;
    row.weight += row_weight * ClassWeight(spec, c);
    row.weight_terms = row.weight;
    TallyElement(x[c], t[c], &row.tally);
    ScoreSigmoidElement(spec, c, x[c], t[c], row_weight, &row);
    row.tally.nonfinite_losses += !std::isfinite(row.loss[c]);
  }
  return row;
}

Row ScoreOverClasses(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
                     absl::Span<const Real> t, Real row_weight) {
  Row row = MakeRow(key);
  if (std::all_of(t.begin(), t.end(), [&](Real v) { return IsIgnored(spec, v); })) return row;
  row.tally.valid = 1;
  if (row_weight == 0) return row;
  for (std::size_t c = 0; c < x.size(); ++c) TallyElement(x[c], t[c], &row.tally);

  const Real sum = std::accumulate(t.begin(), t.end(), Real{0});
  if (key.label.kind == LabelKind::kDense) {
    row.tally.unnormalized_labels =
        std::fabs(sum - 1) > NormalizationTolerance(key.label, key.classes);
  }
  const bool renormalize = spec.label_check == LabelCheck::kRenormalize && sum != 0;
  const Real epsilon = spec.label_smoothing;
  std::vector<Real> targets(t.begin(), t.end());
  for (std::size_t c = 0; c < targets.size(); ++c) {
    const Real class_weight = ClassWeight(spec, c);
    if (renormalize) targets[c] /= sum;
    row.weight += row_weight * class_weight * targets[c];
    row.weight_terms += std::fabs(row_weight * class_weight * targets[c]);
    if (epsilon > 0) {
      targets[c] = (1 - epsilon) * targets[c] + epsilon / static_cast<Real>(key.classes);
    }
    targets[c] *= class_weight;
  }
  ScoreSoftmaxRow(x, targets, row_weight, &row);
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

std::vector<Real> DecodeLabels(const ScoreKey& key, absl::Span<const Real> raw) {
  std::vector<Real> t(raw.begin(), raw.end());
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
