#include "kernels/reference_sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/row_semantics.h"

namespace softloss::reference {
namespace {

Real Rounded(const ScoreKey& key, Real v) {
  return key.prediction == DType::kF64 ? Real{static_cast<double>(v)} : Real{static_cast<float>(v)};
}

Real Sum(const std::vector<Real>& values) {
  return std::accumulate(values.begin(), values.end(), Real{0});
}

Real Rest(Real sum) { return sum < 1 ? 1 - sum : 0; }

// What the classes outside the label come to.
struct Bucket {
  std::vector<bool> inside;  // [classes]: those that have a value of their own
  Real x = 0;                // the prediction of the bucket
  std::vector<Real> share;   // [classes]: ∂x/∂(a prediction in the bucket)
};

Bucket MakeBucket(const LossSpec& spec, absl::Span<const Real> x, const SparseLabel& label) {
  Bucket bucket;
  bucket.inside.assign(x.size(), false);
  for (std::int64_t id : label.ids) bucket.inside[static_cast<std::size_t>(id)] = true;
  bucket.share.assign(x.size(), 1);
  if (spec.prediction_kind == PredictionKind::kProbabilities) {
    bool scorable = true;
    for (std::size_t c = 0; c < x.size(); ++c) {
      if (bucket.inside[c]) continue;
      bucket.x += x[c];
      scorable &= x[c] >= 0 && x[c] <= 1;
    }
    bucket.x = scorable ? std::min(bucket.x, Real{1}) : std::numeric_limits<Real>::quiet_NaN();
    return bucket;
  }
  // The logarithm of the sum of their exponentials.
  const Real temperature = ParametersOf(spec).temperature;
  Real max = -std::numeric_limits<Real>::infinity();
  bool nan = false;
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (bucket.inside[c]) continue;
    max = std::max(max, x[c]);
    nan |= std::isnan(x[c]);
  }
  if (std::isinf(max) || nan) {
    bucket.x = nan ? std::numeric_limits<Real>::quiet_NaN() : max;
    bucket.share.assign(x.size(), 0);
    return bucket;
  }
  Real sum = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    bucket.share[c] = std::exp((x[c] - max) / temperature);
    if (!bucket.inside[c]) sum += bucket.share[c];
  }
  for (Real& v : bucket.share) v /= sum;
  bucket.x = max + temperature * std::log(sum);
  return bucket;
}

}  // namespace

std::vector<Real> Densified(const ScoreKey& key, const SparseLabel& label) {
  const auto classes = static_cast<std::size_t>(key.classes);
  const Real sum = Sum(label.values);
  const bool divide = key.label.tail == TailRule::kRenormalize && sum != 0;
  Real tail = 0;
  if (key.label.tail == TailRule::kUniform && label.ids.size() < classes) {
    tail = Rounded(key, Rest(sum) / static_cast<Real>(classes - label.ids.size()));
  }
  std::vector<Real> t(classes, tail);
  for (std::size_t i = 0; i < label.ids.size(); ++i) {
    const Real v = label.values[i];
    t[static_cast<std::size_t>(label.ids[i])] = divide ? Rounded(key, v / sum) : v;
  }
  return t;
}

Row ScoreBucketed(const ScoreKey& key, const LossSpec& spec, const Bucketed& row, Real row_weight) {
  ScoreKey contracted = key;
  contracted.classes = static_cast<std::int64_t>(row.x.size());
  return ScoreRow(contracted, spec, row.x, row.t, row_weight);
}

Row ScoreSparse(const ScoreKey& key, const LossSpec& spec, absl::Span<const Real> x,
                const SparseLabel& label, Real row_weight) {
  if (key.label.tail != TailRule::kBucket) {
    return ScoreRow(key, spec, x, Densified(key, label), row_weight);
  }
  const Bucket bucket = MakeBucket(spec, x, label);
  Bucketed contracted;
  for (std::int64_t id : label.ids) contracted.x.push_back(x[static_cast<std::size_t>(id)]);
  contracted.t = label.values;
  if (label.ids.size() < x.size()) {
    contracted.x.push_back(bucket.x);
    contracted.t.push_back(Rounded(key, Rest(Sum(label.values))));
  }
  Row row = ScoreBucketed(key, spec, contracted, row_weight);
  const std::vector<Real> gradient = std::move(row.gradient), scale = std::move(row.gradient_scale);
  row.gradient.assign(x.size(), 0);
  row.gradient_scale.assign(x.size(), 0);
  for (std::size_t c = 0; c < x.size(); ++c) {
    if (bucket.inside[c]) continue;
    row.gradient[c] = gradient.back() * bucket.share[c];
    row.gradient_scale[c] = scale.back();
  }
  for (std::size_t i = 0; i < label.ids.size(); ++i) {
    row.gradient[static_cast<std::size_t>(label.ids[i])] = gradient[i];
    row.gradient_scale[static_cast<std::size_t>(label.ids[i])] = scale[i];
  }
  if (row.tally.valid > 0 && row_weight != 0) {
    const bool logits = spec.prediction_kind == PredictionKind::kLogits;
    row.tally.nonfinite_predictions = std::count_if(x.begin(), x.end(), [&](Real v) {
      return !std::isfinite(v) || (!logits && !(v >= 0 && v <= 1));
    });
  }
  return row;
}

}  // namespace softloss::reference
