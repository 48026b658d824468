// A leaf's rows with everything that a spec may ask for: smoothing, class weights, renormalised labels,
// ignored values. A warp (or, for many classes, the block) passes over a row in global memory for the
// labels' sum, the maximum, the sums and the gradient. Slower than the regimes, which take plain labels.
#pragma once

#include "kernels/cuda/row.cuh"

namespace softloss::cuda {

inline constexpr int kMaxWarpClasses = 1024;  // in general, a warp a row

// Σ in Real, moved on to fp64 every few terms.
template <typename Real>
struct Sum {
  Real part = 0;
  double total = 0;
  int terms = 0;
  __device__ void Add(Real v) {
    part += v;
    if (++terms == 4) Flush();
  }
  __device__ void Flush() {
    total += static_cast<double>(part);
    part = 0;
    terms = 0;
  }
};

// Called by whole blocks. `scratch` has 4·kMaxWarps entries.
template <typename Real>
__device__ __attribute__((noinline)) void ScoreLeaf(const Params& p, const DeviceSegment& s,
                                                    std::int64_t leaf, double* scratch) {
  const bool by_warp = p.classes <= kMaxWarpClasses;
  const int lanes = by_warp ? kWarp : blockDim.x;
  const int lane = threadIdx.x % lanes;
  const int at_once = blockDim.x / lanes;
  const auto sum_up = [&](double(&v)[4]) {
    if (by_warp)
      SumLanes(v, kWarp);
    else
      SumBlock(v, scratch);
  };
  const bool renormalize = s.renormalize && !p.row_sum && !p.class_ids;
  const Real keep = Real{1} - static_cast<Real>(s.label_smoothing);
  const Real spread = static_cast<Real>(s.label_smoothing) / static_cast<Real>(p.classes);
  const std::int64_t leaf_begin = leaf * p.leaf_rows;
  const int rows =
      static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - leaf_begin));
  const std::int64_t stride = p.class_last ? 1 : s.rows;

  Totals totals;
  Conditions conditions;
  for (int first = 0; first < rows; first += at_once) {
    const int in_leaf = first + static_cast<int>(threadIdx.x) / lanes;
    const bool present = in_leaf < rows;
    const std::int64_t index = leaf_begin + (present ? in_leaf : 0);
    const std::int64_t at = p.class_last ? index * p.classes : index;
    Row<Real> row = ReadRow<Real>(p, s, index, present, lane == 0);
    const auto raw = [&](int c) -> Real {
      if (p.class_ids) return c == row.id ? 1 : 0;
      return DecodeLabel(Load<Real, kAnyDType>(s.label, at + c * stride, p.label),
                         p.label == DType::kU8 && !p.row_sum);
    };
    Real divisor = 1;
    if (p.row_sum || renormalize) {
      Sum<Real> sum;
      for (int c = lane; c < p.classes; c += lanes) sum.Add(raw(c));
      sum.Flush();
      double v[4] = {sum.total, 0, 0, 0};
      sum_up(v);
      if (v[0] != 0) divisor = static_cast<Real>(v[0]);
    }
    const auto decoded = [&](int c) { return p.row_sum ? raw(c) / divisor : raw(c); };
    if (s.has_ignore_value && !p.class_ids) {
      double ignored[4] = {};
      for (int c = lane; c < p.classes; c += lanes)
        ignored[0] += IsIgnored(decoded(c), s.ignore_value);
      sum_up(ignored);
      if (ignored[0] == p.classes) row.live = false;
    }

    const auto x_at = [&](int c) {
      return Load<Real, kAnyDType>(s.prediction, at + c * stride, p.prediction);
    };
    Real max = -Infinity<Real>();
    for (int c = lane; c < p.classes; c += lanes) max = MaxNan(max, x_at(c));
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      max = MaxNan(max, __shfl_xor_sync(kAllLanes, max, offset));
    }
    if (!by_warp) {
      __syncthreads();
      if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = max;
      __syncthreads();
      for (int w = 0; w < lanes / kWarp; ++w) max = MaxNan(max, static_cast<Real>(scratch[w]));
      __syncthreads();
    }

    const auto class_weight = [&](int c) {
      return s.class_weight == nullptr ? Real{1} : Real{s.class_weight[c]};
    };
    const auto target = [&](Real t, int c) {
      if (renormalize) t /= divisor;
      if (s.label_smoothing != 0) t = Fma(keep, t, spread);
      return t * class_weight(c);
    };
    Sum<Real> others, linear, mass, label_sum, label_weight;
    int maxima = 0;
    for (int c = lane; c < p.classes; c += lanes) {
      const Real x = x_at(c);
      const Real t = decoded(c);
      if (row.scored()) {
        conditions.nonfinite_predictions += !IsFinite(x);
        if (!p.class_ids) {
          conditions.nonfinite_labels += !IsFinite(t);
          conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
        }
      }
      const Real below = x - max;
      maxima += below == 0;
      others.Add(below == 0 ? Real{0} : ExpOfDifference(x, max, below));
      label_sum.Add(t);
      label_weight.Add((renormalize ? t / divisor : t) * class_weight(c));
      const Real y = target(t, c);
      mass.Add(y);
      linear.Add(y != 0 ? y * -below : Real{0});
    }
    others.Flush();
    linear.Flush();
    mass.Flush();
    label_sum.Flush();
    label_weight.Flush();
    double v[4] = {others.total, static_cast<double>(maxima), linear.total, mass.total};
    sum_up(v);
    double labels[4] = {label_sum.total, label_weight.total, 0, 0};
    sum_up(labels);
    const Sums<Real> sums = {max, v[0] + (v[1] - 1), v[2], v[3]};
    if (lane == 0 && present) FinishRow(p, s, row, index, sums, labels[0], labels[1], &totals);

    if (p.has_gradient && present) {
      const Real scale = GradientScale(sums);
      Sum<Real> square;
      for (int c = lane; c < p.classes; c += lanes) {
        const Real g = Fma(Exp(x_at(c) - max), scale, -target(decoded(c), c));
        square.Add(g * g);
        Store<Real, kAnyDType>(s.gradient, at + c * stride, p.gradient,
                               row.scored() ? g * row.weight : Real{0});
      }
      square.Flush();
      if (row.scored() && square.total != 0) {
        const double w = row.weight;
        totals.square += square.total * (w * w);
      }
    }
  }
  AddConditions(conditions, s.counters);
  __syncthreads();
  WriteLeaf(totals, s, leaf, scratch);
}

}  // namespace softloss::cuda
