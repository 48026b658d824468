// Losses over classes, whatever the loss, the options, the types and the layout: a leaf a block, in which one
// thread, a warp or all threads share a row and pass over it in memory, where what one pass has read
// mostly still is near for the next. Everything is computed in fp64, so that no row needs another way of
// computing; the regimes for softmax cross entropy (softmax.h) are the fast ones.
#pragma once

#include "kernels/cuda/class_terms.cuh"
#include "kernels/cuda/row.cuh"

namespace softloss::cuda::family {

inline constexpr int kThreads = 256;

struct State {
  double scratch[4 * kMaxWarps];
};

// The threads that share a row; all of the block call these together.
class Sharers {
 public:
  __device__ Sharers(int lanes, double* scratch) : lanes_(lanes), scratch_(scratch) {}

  template <int N>
  __device__ void Sum(double (&v)[N]) const {
    static_assert(N <= 4);
    if (lanes_ == kWarp) {
      SumLanes(v, kWarp);
    } else if (lanes_ > kWarp) {
      SumBlock(v, scratch_);
    }
  }

  // NaN if any is.
  __device__ double Max(double m) const {
    if (lanes_ == 1) return m;
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      m = MaxNan(m, __shfl_xor_sync(kAllLanes, m, offset));
    }
    if (lanes_ == kWarp) return m;
    if (threadIdx.x % kWarp == 0) scratch_[threadIdx.x / kWarp] = m;
    __syncthreads();
    for (int w = 0; w < lanes_ / kWarp; ++w) m = MaxNan(m, scratch_[w]);
    __syncthreads();
    return m;
  }

 private:
  int lanes_;
  double* scratch_;
};

// A row's elements as they are decoded. Labels are rounded to the type that the contract computes in.
class Elements {
 public:
  __device__ Elements(const Params& p, const DeviceSegment& s, std::int64_t row, int id)
      : p_(p),
        s_(s),
        first_(p.class_last ? row * p.classes : row),
        stride_(p.class_last ? 1 : s.rows),
        id_(id) {}

  __device__ bool Exists(int c) const { return s_.class_mask == nullptr || s_.class_mask[c] != 0; }
  __device__ double Prediction(int c) const {
    return Load<double, kAnyDType>(s_.prediction, first_ + c * stride_, p_.prediction);
  }
  // u8 labels that are divided by their sum: before that.
  __device__ double RawLabel(int c) const {
    if (p_.class_ids) return c == id_ ? 1 : 0;
    const double t = Load<double, kAnyDType>(s_.label, first_ + c * stride_, p_.label);
    return p_.row_sum ? t : Rounded(p_.label == DType::kU8 ? Over255(t) : t);
  }
  __device__ double Label(int c, double raw_sum) const {
    const double t = RawLabel(c);
    return p_.row_sum ? Rounded(t / fmax(raw_sum, 1.0)) : t;
  }
  __device__ void StoreGradient(int c, double g) const {
    Store<double, kAnyDType>(s_.gradient, first_ + c * stride_, p_.gradient, g);
  }

 private:
  __device__ double Rounded(double t) const {
    return p_.prediction == DType::kF64 ? t : static_cast<double>(static_cast<float>(t));
  }

  const Params& p_;
  const DeviceSegment& s_;
  const std::int64_t first_;
  const std::int64_t stride_;
  const int id_;
};

// What all classes of a row share.
struct RowAt {
  double max = 0;     // logits
  double others = 0;  // Σ e^((x - max)/T) but for one maximum
  double log_sum = 0;
  double label_sum = 0;
  double exist = 0;  // classes
};

__device__ inline ClassAt Predict(const DeviceParameters& parameters, const RowAt& row, double x) {
  if (parameters.probabilities) {
    constexpr double kFloor = 1e-7f;  // kProbabilityFloor
    const double p = fmax(x, kFloor);
    return {p, 1 - p, log(p)};
  }
  const double exponent = (x - row.max) / parameters.temperature;
  const double p = exp(exponent) / (1 + row.others);
  return {p, x == row.max ? row.others / (1 + row.others) : 1 - p, exponent - row.log_sum};
}

// The label as scored.
__device__ inline double Target(const DeviceSegment& s, const RowAt& row, bool renormalize,
                                double t, bool smoothed) {
  if (renormalize) t /= row.label_sum;
  if (smoothed && s.label_smoothing != 0) {
    const double epsilon = s.label_smoothing;
    t = (1 - epsilon) * t + epsilon / row.exist;
  }
  return t;
}

template <class Term>
__global__ void __launch_bounds__(kThreads) Kernel(const __grid_constant__ Params p) {
  double* const scratch = SharedState<State>()->scratch;
  const DeviceSegment& s = FindSegment(p.segments, p.count, blockIdx.x);
  const std::int64_t leaf = blockIdx.x - s.first_leaf;
  const std::int64_t leaf_begin = leaf * p.leaf_rows;
  const int rows =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - leaf_begin));
  const int lanes = p.threads_per_row;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const Sharers sharers(lanes, scratch);
  const DeviceParameters& parameters = s.parameters;
  const Term term(parameters);
  const bool logits = !parameters.probabilities;

  Totals totals;
  Conditions conditions;
  for (int first = 0; first < rows; first += kThreads / lanes) {
    const int in_leaf = first + static_cast<int>(threadIdx.x) / lanes;
    const bool present = in_leaf < rows;
    const std::int64_t index = leaf_begin + (present ? in_leaf : 0);
    Row<double> row = ReadRow<double>(p, s, index, present, lane == 0);
    const Elements elements(p, s, index, row.id);
    const auto for_each = [&](bool wanted, auto visit) {
      for (int c = wanted ? lane : p.classes; c < p.classes; c += lanes) {
        if (elements.Exists(c)) visit(c);
      }
    };

    // First pass: the maximum, the labels' sum as they are stored, how many classes there are.
    RowAt at;
    double max = -Infinity<double>();
    double raw[3] = {};  // sum, classes, predictions that cannot be scored
    for_each(row.live, [&](int c) {
      const double x = elements.Prediction(c);
      max = MaxNan(max, x);
      raw[0] += elements.RawLabel(c);
      raw[1] += 1;
      raw[2] += logits ? x != x : !(x >= 0 && x <= 1);
    });
    sharers.Sum(raw);
    at.max = sharers.Max(max);
    at.exist = raw[1];

    // Second: the labels' sum, whether the row is ignored, what is to be counted, and the sum of
    // exponentials.
    Conditions row_conditions;
    double sums[4] = {};  // labels, ignored ones, others, maxima
    double nan_labels[1] = {};
    for_each(row.live, [&](int c) {
      const double x = elements.Prediction(c);
      const double t = elements.Label(c, raw[0]);
      sums[0] += t;
      sums[1] += s.has_ignore_value && IsIgnored(t, s.ignore_value);
      if (x == at.max)
        sums[3] += 1;
      else
        sums[2] += exp((x - at.max) / parameters.temperature);
      nan_labels[0] += t != t;
      row_conditions.nonfinite_predictions += !IsFinite(x) || (!logits && !(x >= 0 && x <= 1));
      row_conditions.nonfinite_labels += !IsFinite(t);
      row_conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
    });
    sharers.Sum(sums);
    sharers.Sum(nan_labels);
    at.label_sum = sums[0];
    at.others = sums[2] + (sums[3] - 1);
    at.log_sum = log1p(at.others);
    if (s.has_ignore_value && !p.class_ids && sums[1] == at.exist) row.live = false;
    const bool scored = row.scored();
    const bool bad = raw[2] != 0 || nan_labels[0] != 0 || (logits && !IsFinite(at.max));
    const bool renormalize = s.renormalize && at.label_sum != 0;
    if (scored) {
      conditions.nonfinite_predictions += row_conditions.nonfinite_predictions;
      if (!p.class_ids) {
        conditions.nonfinite_labels += row_conditions.nonfinite_labels;
        conditions.out_of_range_labels += row_conditions.out_of_range_labels;
      }
    }

    const auto class_weight = [&](int c) {
      return s.class_weight == nullptr ? 1.0 : static_cast<double>(s.class_weight[c]);
    };
    const auto score = [&](int c, ClassAt* predicted) {
      *predicted = Predict(parameters, at, elements.Prediction(c));
      const double t = Target(s, at, renormalize, elements.Label(c, raw[0]), true);
      return term(*predicted, t);
    };

    // Third: the loss, and Σ q.
    double scores[3] = {};  // loss, slopes, labels with class weights
    for_each(scored, [&](int c) {
      scores[2] += class_weight(c) *
                   Target(s, at, renormalize, elements.Label(c, raw[0]), /*smoothed=*/false);
      if (bad) return;
      ClassAt predicted;
      const TermAt value = score(c, &predicted);
      scores[0] += Weigh(class_weight(c), value.loss);
      scores[1] += Weigh(class_weight(c), value.slope);
    });
    sharers.Sum(scores);
    const double log_sum_exp = at.max / parameters.temperature + at.log_sum;
    if (lane == 0 && present) {
      double loss = 0;
      totals.valid += row.live;
      if (scored) {
        const double z =
            parameters.z_loss == 0 || !logits ? 0 : parameters.z_loss * log_sum_exp * log_sum_exp;
        loss = bad ? Nan<double>() : row.weight * (scores[0] + z);
        totals.weight += row.weight * scores[2];
        if (!p.class_ids || at.label_sum == 0) {
          conditions.unnormalized_labels += fabs(at.label_sum - 1) > p.tolerance;
        }
      }
      if (p.prediction != DType::kF64) loss = static_cast<float>(loss);
      conditions.nonfinite_losses += !IsFinite(loss);
      totals.loss += loss;
      if (s.row_loss != nullptr) {
        Store<double, kAnyDType>(s.row_loss, index,
                                 p.prediction == DType::kF64 ? DType::kF64 : DType::kF32, loss);
      }
    }

    // Fourth: the gradient, over all classes, as every byte is written.
    const double rise = logits ? 2 * parameters.z_loss * log_sum_exp - scores[1] : 0;
    const double rate = logits ? row.weight / parameters.temperature : row.weight;
    double square = 0;
    for (int c = p.has_gradient && present ? lane : p.classes; c < p.classes; c += lanes) {
      double g = 0;
      if (scored && elements.Exists(c)) {
        if (bad) {
          g = Nan<double>();
        } else {
          ClassAt predicted;
          const double slope = Weigh(class_weight(c), score(c, &predicted).slope);
          // An infinite Σq is no less so for a p that underflowed.
          const double share = predicted.p == 0 && !IsFinite(rise) && IsPositive(predicted)
                                   ? rise
                                   : predicted.p * rise;
          g = rate * (logits ? slope + share : slope / predicted.p);
        }
      }
      square += g * g;
      elements.StoreGradient(c, g);
    }
    totals.square += square;
  }
  AddConditions(conditions, s.counters);
  __syncthreads();
  WriteLeaf(totals, s, leaf, scratch);
}

}  // namespace softloss::cuda::family
