#include "kernels/annotation/confident_learning.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace softloss::annotation {
namespace {

// Sums of rounded averages may miss a prediction equal to all of them by this.
constexpr double kThresholdSlack = 1e-6;

double RowSum(absl::Span<const double> matrix, int num_classes, int row) {
  const auto begin = matrix.begin() + static_cast<std::ptrdiff_t>(row) * num_classes;
  return std::accumulate(begin, begin + num_classes, 0.0);
}

}  // namespace

ConfidentThresholds::ConfidentThresholds(int num_classes)
    : labels_(num_classes), confidence_(num_classes) {}

void ConfidentThresholds::Add(std::int32_t label, Row p) {
  labels_[label] += 1;
  confidence_[label] += p[label];
}

void ConfidentThresholds::Add(Row q, Row p) {
  for (std::size_t k = 0; k < q.size(); ++k) {
    if (q[k] == 0) continue;
    labels_[k] += q[k];
    confidence_[k] += q[k] * p[k];
  }
}

ConfidentThresholds& ConfidentThresholds::operator+=(const ConfidentThresholds& other) {
  for (std::size_t k = 0; k < labels_.size(); ++k) {
    labels_[k] += other.labels_[k];
    confidence_[k] += other.confidence_[k];
  }
  return *this;
}

std::vector<double> ConfidentThresholds::Finish() const {
  std::vector<double> t(labels_.size(), kOfNoLabels);
  for (std::size_t k = 0; k < t.size(); ++k) {
    const double labels = labels_[k].value();
    if (labels > 0) t[k] = std::max(confidence_[k].value() / labels, kFloor);
  }
  return t;
}

std::int32_t ConfidentClass(Row p, Row thresholds) {
  std::int32_t sure = -1;
  for (std::size_t k = 0; k < p.size(); ++k) {
    if (!(p[k] >= thresholds[k] - kThresholdSlack)) continue;
    if (sure >= 0) return ArgMax(p);
    sure = static_cast<std::int32_t>(k);
  }
  return sure;
}

ConfidentJoint::ConfidentJoint(std::vector<double> thresholds)
    : thresholds_(std::move(thresholds)),
      cell_(thresholds_.size() * thresholds_.size()),
      labels_(thresholds_.size()) {}

void ConfidentJoint::Add(std::int32_t label, Row p) {
  labels_[label] += 1;
  const std::int32_t sure = ConfidentClass(p, thresholds_);
  if (sure >= 0) cell_[label * thresholds_.size() + sure] += 1;
}

void ConfidentJoint::Add(Row q, Row p) {
  const std::int32_t sure = ConfidentClass(p, thresholds_);
  for (std::size_t k = 0; k < q.size(); ++k) {
    if (q[k] == 0) continue;
    labels_[k] += q[k];
    if (sure >= 0) cell_[k * thresholds_.size() + sure] += q[k];
  }
}

ConfidentJoint& ConfidentJoint::operator+=(const ConfidentJoint& other) {
  for (std::size_t i = 0; i < cell_.size(); ++i) cell_[i] += other.cell_[i];
  for (std::size_t k = 0; k < labels_.size(); ++k) labels_[k] += other.labels_[k];
  return *this;
}

std::vector<double> ConfidentJoint::Counts() const {
  std::vector<double> counts(cell_.size());
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = cell_[i].value();
  for (std::size_t k = 0; k < labels_.size(); ++k) {
    double& right = counts[k * labels_.size() + k];
    right = std::max(right, 1.0);
  }
  return counts;
}

std::vector<double> ConfidentJoint::Calibrated() const {
  std::vector<double> joint = Counts();
  const auto k_end = static_cast<int>(labels_.size());
  for (int c = 0; c < k_end; ++c) {
    const double sum = RowSum(joint, k_end, c);  // ≥ 1
    const double labels = labels_[c].value();
    for (int k = 0; k < k_end; ++k) {
      double& cell = joint[static_cast<std::size_t>(c) * k_end + k];
      cell = cell / sum * labels;
    }
  }
  return joint;
}

std::vector<std::int64_t> RoundKeepingSum(absl::Span<const double> row) {
  const auto nearest = [](double x) { return static_cast<std::int64_t>(std::nearbyint(x)); };
  std::vector<std::int64_t> rounded(row.size());
  std::transform(row.begin(), row.end(), rounded.begin(), nearest);
  std::int64_t missing = nearest(std::accumulate(row.begin(), row.end(), 0.0)) -
                         std::accumulate(rounded.begin(), rounded.end(), std::int64_t{0});
  if (missing == 0) return rounded;
  // At most half a unit a number is missing, so that none has to give way twice.
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return row[a] - static_cast<double>(rounded[a]) < row[b] - static_cast<double>(rounded[b]);
  });
  if (missing > 0) std::reverse(order.begin(), order.end());
  const std::int64_t step = missing > 0 ? 1 : -1;
  for (std::size_t i = 0; missing != 0; ++i, missing -= step) rounded[order[i]] += step;
  return rounded;
}

NoiseEstimates EstimateNoise(absl::Span<const double> joint_counts, int num_classes) {
  NoiseEstimates out;
  const double total = std::accumulate(joint_counts.begin(), joint_counts.end(), 0.0);
  for (const double count : joint_counts) out.joint.push_back(count / total);
  out.right = 0;
  for (int c = 0; c < num_classes; ++c) {
    double labelled = 0, truly = 0;
    for (int k = 0; k < num_classes; ++k) {
      labelled += out.joint[static_cast<std::size_t>(c) * num_classes + k];
      truly += out.joint[static_cast<std::size_t>(k) * num_classes + c];
    }
    const double right = out.joint[static_cast<std::size_t>(c) * num_classes + c];
    out.right += right;
    out.label_noise.push_back((labelled - right) / labelled);
    out.inverse_noise.push_back((truly - right) / truly);
  }
  return out;
}

}  // namespace softloss::annotation
