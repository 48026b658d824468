#include "kernels/cpu/unusual_rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/exact.h"
#include "kernels/reference.h"

namespace softloss::cpu {
namespace {

bool IsScorable(const LossSpec& spec, double x) {
  if (spec.prediction_kind == PredictionKind::kProbabilities) return x >= 0 && x <= 1;
  return std::isfinite(x);
}

}  // namespace

template <typename T>
const double* UnusualRows<T>::Examine(const Row& row) {
  const std::size_t classes = classes_.classes();
  double* const x = io_.scratch().exact.template Get<double>(2 * classes);
  double* const t = x + classes;
  Read(row, x, t);
  bool usable = row.usable;
  for (std::size_t i = 0; i < classes_.count(); ++i) {
    const std::size_t c = classes_.Index(i);
    const bool finite_t = std::isfinite(t[c]);
    tally_.nonfinite_predictions += !IsScorable(spec_, x[c]);
    tally_.nonfinite_labels += !finite_t;
    tally_.out_of_range_labels += finite_t && (t[c] < 0 || t[c] > 1);
    usable &= std::fabs(x[c]) < kExactLogit && std::fabs(t[c]) < kExactLabel;
  }
  // The losses' own exact functions know nothing of classes that do not exist.
  const bool by_reference = loss_.exact == nullptr || !classes_.all();
  if (!by_reference) {
    TransformLabels(t);
    for (std::size_t c = 0; c < classes; ++c) usable &= std::fabs(t[c]) < kExactLabel;
  }
  if (usable) return nullptr;
  exact_loss_ = by_reference ? ScoreByReference(t, x) : ScoreByLoss(t, x);
  gradient_square_ = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    x[c] *= row.weight;
    if (io_.wants_gradient()) gradient_square_ += x[c] * x[c];
  }
  return x;
}

// Labels as given, class ids as one-hot rows.
template <typename T>
void UnusualRows<T>::Read(const Row& row, double* x, double* t) {
  const std::size_t classes = classes_.classes();
  const ScoreKey& key = io_.key();
  const std::int64_t stride = key.class_last ? 1 : io_.segment().rows;
  const std::int64_t begin = key.class_last ? row.index * key.classes : row.index;
  T* const decoded = io_.scratch().exact_decoded.template Get<T>(classes);
  io_.StridedPredictions(begin, stride, classes, decoded);
  std::copy_n(decoded, classes, x);
  if (key.label.kind == LabelKind::kClassId) {
    std::fill_n(t, classes, 0.0);
    t[row.id] = 1;
    return;
  }
  io_.StridedLabels(begin, stride, classes, decoded);
  std::copy_n(decoded, classes, t);
  if (!transform_.row_sum) return;
  double sum = 0;
  for (std::size_t i = 0; i < classes_.count(); ++i) sum += t[classes_.Index(i)];
  for (std::size_t c = 0; c < classes; ++c) t[c] /= std::max(sum, 1.0);
}

// Both return the loss and leave the gradient in x, without the row weight.
template <typename T>
double UnusualRows<T>::ScoreByReference(const double* t, double* x) const {
  const std::size_t classes = classes_.classes();
  std::vector<reference::Real> predictions(x, x + classes), labels(classes);
  for (std::size_t c = 0; c < classes; ++c) labels[c] = static_cast<T>(t[c]);
  const reference::Row row = reference::ScoreRow(io_.key(), spec_, predictions, labels, 1);
  std::copy(row.gradient.begin(), row.gradient.end(), x);
  return static_cast<double>(row.loss[0]);
}

template <typename T>
double UnusualRows<T>::ScoreByLoss(double* t, double* x) const {
  const bool weighs_terms = !spec_.class_weight.empty() && !loss_.weighs_labels;
  const float* const weights = weighs_terms ? spec_.class_weight.data() : nullptr;
  return loss_.exact({classes_.classes(), x, t, weights, &spec_}, x);
}

template <typename T>
void UnusualRows<T>::TransformLabels(double* t) const {
  const std::size_t classes = classes_.classes();
  double sum = 0;
  for (std::size_t c = 0; c < classes; ++c) sum += t[c];
  const bool renormalize = transform_.renormalize && sum != 0;
  const double smoothing = static_cast<double>(transform_.smoothing);
  for (std::size_t c = 0; c < classes; ++c) {
    if (renormalize) t[c] /= sum;
    if (smoothing > 0) t[c] = (1 - smoothing) * t[c] + smoothing / static_cast<double>(classes);
    if (transform_.class_weight && transform_.weighs_labels) {
      t[c] *= static_cast<double>(transform_.class_weight[c]);
    }
  }
}

template class UnusualRows<float>;
template class UnusualRows<double>;

}  // namespace softloss::cpu
