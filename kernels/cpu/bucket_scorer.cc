// Scores rows whose classes outside a sparse label are one class. The passes over all classes are
// vector code; what is left, k + 1 classes a row, is the reference's.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/bucket.h"
#include "kernels/cpu/row_arrays.h"
#include "kernels/cpu/scorer.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/reference_sparse.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

constexpr std::size_t kMaxLeafRows = 256;

template <typename T>
class BucketScorer {
 public:
  BucketScorer(const ScoreKey& key, const Segment& segment, Scratch& scratch, Tally& tally)
      : io_(key, segment, scratch),
        spec_(*segment.spec),
        scratch_(scratch),
        tally_(tally),
        classes_(static_cast<std::size_t>(key.classes)),
        padded_((classes_ + kRowQuantum - 1) / kRowQuantum * kRowQuantum),
        k_(static_cast<std::size_t>(key.label.k)),
        logits_(segment.spec->prediction_kind == PredictionKind::kLogits),
        temperature_(static_cast<double>(ParametersOf(spec_).temperature)) {
    row_weight_ = scratch.rows.Get<T>(2 * kMaxLeafRows);
    loss_ = row_weight_ + kMaxLeafRows;
  }

  absl::Status ScoreLeaf(std::int64_t row, std::size_t n, LeafSum& sum) {
    if (absl::Status status = io_.ReadRows(row, n, row_weight_, nullptr); !status.ok()) {
      return status;
    }
    sum = LeafSum();
    for (std::size_t i = 0; i < n; ++i) {
      const std::int64_t at = row + static_cast<std::int64_t>(i);
      loss_[i] = 0;
      T* const gradient = scratch_.g.template Get<T>(classes_);
      if (row_weight_[i] > 0) {
        ScoreRow(at, i, gradient, sum);
      } else {
        tally_.valid += row_weight_[i] == 0;
        std::fill_n(gradient, classes_, T(0));
      }
      if (!io_.wants_gradient()) continue;
      if (io_.key().class_last) {
        io_.WriteGradient(at * io_.key().classes, classes_, gradient);
      } else {
        io_.WriteStridedGradient(at, io_.segment().rows, classes_, gradient);
      }
    }
    if (io_.wants_row_loss()) io_.WriteRowLoss(row, n, loss_);
    return absl::OkStatus();
  }

 private:
  using Real = reference::Real;

  // Entry `i` of the leaf. Fills gradient [classes].
  void ScoreRow(std::int64_t row, std::size_t i, T* gradient, LeafSum& sum) {
    T* const x = scratch_.x.template Get<T>(padded_);
    ReadRow(row, x);
    const T most = logits_ ? std::numeric_limits<T>::max() : T(1);
    const std::size_t outside = CountOutside(x, padded_, logits_ ? -most : T(0), most);
    const auto weight = static_cast<Real>(row_weight_[i]);
    const std::int64_t* const ids = io_.sparse_labels().ids(i);
    const T* const values = io_.sparse_labels().values(i);
    if (outside > 0) return ScoreByReference(x, ids, values, weight, i, gradient, sum);

    reference::Bucketed contracted;
    double label_sum = 0;
    const T nothing = logits_ ? -std::numeric_limits<T>::infinity() : T(0);
    for (std::size_t j = 0; j < k_; ++j) {
      contracted.x.push_back(x[ids[j]]);
      contracted.t.push_back(values[j]);
      label_sum += static_cast<double>(values[j]);
      x[ids[j]] = nothing;
    }
    std::fill(x + classes_, x + padded_, nothing);
    double scale = 1;  // of what x then holds, in the shares of the classes outside
    if (k_ < classes_) {
      contracted.x.push_back(Contract(x, &scale));
      contracted.t.push_back(static_cast<T>(RestOfMass(label_sum)));
    } else {
      std::fill_n(x, padded_, T(0));
    }
    const reference::Row scored = reference::ScoreBucketed(io_.key(), spec_, contracted, weight);
    Add(scored, scored.tally, i, sum);
    if (!io_.wants_gradient()) return;
    const double rest = k_ < classes_ ? static_cast<double>(scored.gradient.back()) * scale : 0;
    if (logits_) {
      sum.gradient_square += Scale(x, classes_, static_cast<T>(rest), gradient);
    } else {
      std::fill_n(gradient, classes_, static_cast<T>(rest));
      sum.gradient_square += static_cast<double>(classes_ - k_) * rest * rest;
    }
    for (std::size_t j = 0; j < k_; ++j) {
      gradient[ids[j]] = static_cast<T>(scored.gradient[j]);
      sum.gradient_square += static_cast<double>(scored.gradient[j] * scored.gradient[j]);
    }
  }

  void ReadRow(std::int64_t row, T* x) {
    if (io_.key().class_last) {
      const T* const from = io_.Predictions(row * io_.key().classes, classes_, x);
      if (from != x) std::memcpy(x, from, classes_ * sizeof(T));
    } else {
      io_.StridedPredictions(row, io_.segment().rows, classes_, x);
    }
    std::fill(x + classes_, x + padded_, T(0));
  }

  // The bucket's prediction. What is left in x, times *scale, is its derivative by the predictions.
  Real Contract(T* x, double* scale) const {
    if (!logits_) return std::min(Real{1}, static_cast<Real>(SumOf(x, padded_)));
    const ExponentialSum all = SumExponentials(x, padded_, static_cast<T>(1 / temperature_));
    if (all.sum == 0) return static_cast<Real>(all.max);
    *scale = 1 / all.sum;
    return static_cast<Real>(all.max + temperature_ * std::log(all.sum));
  }

  // What is not finite, or no probability.
  void ScoreByReference(const T* x, const std::int64_t* ids, const T* values, Real weight,
                        std::size_t i, T* gradient, LeafSum& sum) {
    const std::vector<Real> predictions(x, x + classes_);
    const reference::Row scored = reference::ScoreSparse(
        io_.key(), spec_, predictions, {{ids, ids + k_}, {values, values + k_}}, weight);
    Add(scored, scored.tally, i, sum);
    for (std::size_t c = 0; c < classes_; ++c) {
      gradient[c] = static_cast<T>(scored.gradient[c]);
      if (io_.wants_gradient()) {
        sum.gradient_square += static_cast<double>(scored.gradient[c] * scored.gradient[c]);
      }
    }
  }

  void Add(const reference::Row& scored, const Tally& tally, std::size_t i, LeafSum& sum) {
    loss_[i] = static_cast<T>(scored.loss[0]);
    sum.loss += static_cast<double>(scored.loss[0]);
    sum.weight += static_cast<double>(scored.weight);
    tally_ += tally;
  }

  SegmentIo<T> io_;
  const LossSpec& spec_;
  Scratch& scratch_;
  Tally& tally_;
  const std::size_t classes_, padded_, k_;
  const bool logits_;
  const double temperature_;
  T* row_weight_ = nullptr;
  T* loss_ = nullptr;
};

}  // namespace

template <typename T>
absl::Status ScoreBucketLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                               std::int64_t leaf_end, Scratch& scratch, Tally& tally) {
  return ScoreEachLeaf(BucketScorer<T>(key, segment, scratch, tally), key, segment, leaf_begin,
                       leaf_end);
}

template absl::Status ScoreBucketLeaves<float>(const ScoreKey&, const Segment&, std::int64_t,
                                               std::int64_t, Scratch&, Tally&);
template absl::Status ScoreBucketLeaves<double>(const ScoreKey&, const Segment&, std::int64_t,
                                                std::int64_t, Scratch&, Tally&);

}  // namespace softloss::cpu
