// What every kernel over rows shares: its parameters, what a row is before its elements are looked at,
// and sums over a row's classes that can be merged.
#pragma once

#include <cstdint>

#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/shared.cuh"
#include "kernels/cuda/types.h"

namespace softloss::cuda {

struct Params {
  const DeviceSegment* segments;
  int count;
  std::int64_t leaves;
  int classes;
  int leaf_rows;
  DType prediction;
  DType label;
  DType gradient;
  int prediction_size;
  int label_size;
  int gradient_size;
  bool has_gradient;
  bool class_ids;
  bool row_sum;
  bool class_last;
  double tolerance;  // on |S - 1|

  // Of one regime each; see there.
  int threads_per_row;
  int blocks_per_row;
  int slice;
  int elements;
  int chunks;
  int tile_rows;
  int groups;
  int leaves_per_block;
};

// The targets are the labels as decoded; what else there is, kernels/cuda/general.cuh does.
__device__ inline bool IsPlain(const Params& p, const DeviceSegment& s) {
  const bool renormalizes = s.renormalize && !p.class_ids;
  const bool ignores = s.has_ignore_value && !p.class_ids;
  return !p.row_sum && !renormalizes && !ignores && s.label_smoothing == 0 &&
         s.class_weight == nullptr;
}

// A row as mask, weight and class id make it.
template <typename Real>
struct Row {
  bool live = false;  // present, and neither masked nor ignored
  Real weight = 1;
  int id = -1;

  __device__ bool scored() const { return live && weight != 0; }
};

// `reports`: whether this thread tells of what is wrong with the row.
template <typename Real>
__device__ inline Row<Real> ReadRow(const Params& p, const DeviceSegment& s, std::int64_t index,
                                    bool present, bool reports) {
  Row<Real> row;
  row.live = present && (s.mask == nullptr || s.mask[index] != 0);
  if (row.live && s.row_weight != nullptr) {
    row.weight = s.row_weight[index];
    if (!(row.weight >= 0 && IsFinite(row.weight))) {
      if (reports) ReportBadRow(index, &s.counters->bad_row_weight);
      row.live = false;
    }
  }
  if (row.live && p.class_ids) {
    const std::int64_t id = LoadId(s.label, index, p.label);
    if (s.has_ignore_index && id == s.ignore_index) {
      row.live = false;
    } else if (id < 0 || id >= p.classes) {
      if (reports) ReportBadRow(index, &s.counters->bad_label);
      row.live = false;
    } else {
      row.id = static_cast<int>(id);
    }
  }
  return row;
}

// Sums over some of a row's classes, relative to their maximum m: `rest` is Σ e^(x-m) less the
// maximum's own 1 (so that ln d keeps its digits where d is near 1), `linear` Σ t·(m - x), `mass` Σ t.
template <typename Real>
struct Sums {
  Real max;
  double rest;
  double linear;
  double mass;
};

// What sums relate to where nothing is finite.
template <typename Real>
__device__ inline Real Finite(Real max) {
  return IsFinite(max) ? max : Real{0};
}

// e^(m - larger), the factor from sums about m to sums about `larger`; NaN if one is.
template <typename Real>
__device__ inline Real Factor(Real m, Real larger) {
  return m == larger ? Real{1} : ExpOfDifference(m, larger, m - larger);
}

// Relates `s` to `max` ≥ s.max: Σ e^(x-max), nothing left out, and Σ t·(max - x).
template <typename Real>
__device__ inline void Relate(Sums<Real>& s, Real max) {
  s.rest = (s.rest + 1.0) * static_cast<double>(Factor(s.max, max));
  s.linear += s.mass * (static_cast<double>(Finite(max)) - static_cast<double>(Finite(s.max)));
}

template <typename Real>
__device__ inline void Merge(Sums<Real>& into, Sums<Real> s) {
  const Real max = MaxNan(into.max, s.max);
  // Of one that has the maximum, its 1 stays out; the other comes in whole.
  const bool first = into.max == max;
  const double rest = first ? into.rest : s.rest;
  Relate(into, max);
  Relate(s, max);
  into.rest = rest + (first ? s.rest : into.rest);
  into.linear += s.linear;
  into.mass += s.mass;
  into.max = max;
}

// Merges the sums that lanes 0 … count-1 of each aligned group of `count` (a power of two) lanes hold;
// every lane gets the result.
template <typename Real>
__device__ inline void MergeLanes(Sums<Real>& s, int count) {
  Real max = s.max;
  for (int offset = count / 2; offset > 0; offset /= 2) {
    max = MaxNan(max, __shfl_xor_sync(kAllLanes, max, offset));
  }
  // One of those that have the maximum leaves its 1 out.
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned group = (count == kWarp ? kAllLanes : (1u << count) - 1) << (lane & ~(count - 1));
  const unsigned holders = __ballot_sync(kAllLanes, s.max == max) & group;
  const double rest = s.rest;
  Relate(s, max);
  if (holders != 0 && __ffs(holders) - 1 == static_cast<int>(lane)) s.rest = rest;
  double v[3] = {s.rest, s.linear, s.mass};
  SumLanes(v, count);
  s = {max, v[0], v[1], v[2]};
}

// The sums of the first `count` (in steps of four) of kN elements of a row that this thread has,
// together with those of the other threads of its group of `lanes` ≤ 32, which share the row; what is
// beyond a row's end is -∞ with label 0. Replaces x by e^(x - maximum). So few terms and rounds are
// added up in Real.
template <typename Real, int kN, typename Label>
__device__ inline Sums<Real> SumElements(Real (&x)[kN], Label t, int count, int lanes) {
  constexpr int kStep = 4;
  Real max = -Infinity<Real>();
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    if (j % kStep == 0 && j >= count) break;
    max = MaxNan(max, x[j]);
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    max = MaxNan(max, __shfl_xor_sync(kAllLanes, max, offset));
  }
  Real about = Finite(max);
  if (!(Abs(about) < RowExp<Real>::kMax)) {  // where x - m is exact, or e^(x-m) is 0
#pragma unroll
    for (int j = 0; j < kN; ++j) x[j] -= about;
    about = 0;
  }
  const RowExp<Real> exp_of(about);
  Real rest[kStep] = {}, linear[2] = {}, mass[2] = {};
  int maxima = 0;
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    if (j % kStep == 0 && j >= count) break;
    const Real target = t(j);
    const Real e = exp_of(x[j]);
    if (x[j] == about)
      ++maxima;
    else
      rest[j % kStep] += e;
    linear[j % 2] = Fma(target, target != 0 ? about - x[j] : Real{0}, linear[j % 2]);
    mass[j % 2] += target;
    x[j] = e;
  }
  // One of the maxima is left out, by the first lane that has one.
  if (lanes == 1) {
    --maxima;
  } else {
    const unsigned lane = threadIdx.x % kWarp;
    const unsigned group = (lanes == kWarp ? kAllLanes : (1u << lanes) - 1)
                           << (lane & ~(lanes - 1));
    const unsigned holders = __ballot_sync(kAllLanes, maxima > 0) & group;
    if (holders != 0 && __ffs(holders) - 1 == static_cast<int>(lane)) --maxima;
  }
  Real all = (rest[0] + rest[1]) + (rest[2] + rest[3]);
  if (max > -Infinity<Real>()) all += static_cast<Real>(maxima);
  Real line = linear[0] + linear[1];
  Real total = mass[0] + mass[1];
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    all += __shfl_xor_sync(kAllLanes, all, offset);
    line += __shfl_xor_sync(kAllLanes, line, offset);
    total += __shfl_xor_sync(kAllLanes, total, offset);
  }
  return {max, static_cast<double>(all), static_cast<double>(line), static_cast<double>(total)};
}

// What a thread adds up over the rows of a leaf that it answers for.
struct Totals {
  double loss = 0;
  double weight = 0;
  double square = 0;
  int valid = 0;
};

// The row's loss, by one thread of those that share it. `label_sum` is of the labels as decoded,
// `label_weight` of those with class weights, before smoothing.
template <typename Real>
__device__ inline void FinishRow(const Params& p, const DeviceSegment& s, const Row<Real>& row,
                                 std::int64_t index, const Sums<Real>& sums, double label_sum,
                                 double label_weight, Totals* totals) {
  Real loss = 0;
  totals->valid += row.live;
  if (row.scored()) {
    const double weight = row.weight;
    const auto log_d = static_cast<double>(Log1p(static_cast<Real>(sums.rest)));
    loss = IsFinite(sums.max) ? static_cast<Real>((sums.linear + sums.mass * log_d) * weight)
                              : Nan<Real>();
    totals->loss += static_cast<double>(loss);
    totals->weight += weight * label_weight;
    if (!IsFinite(loss)) atomicAdd(&s.counters->nonfinite_losses, 1ull);
    if (!p.class_ids && fabs(label_sum - 1) > p.tolerance) {
      atomicAdd(&s.counters->unnormalized_labels, 1ull);
    }
  }
  if (s.row_loss != nullptr) static_cast<Real*>(s.row_loss)[index] = loss;
}

// What e^(x-max) is multiplied by in the gradient S·p - t, with p = e^(x-max) / d.
template <typename Real>
__device__ inline Real GradientScale(const Sums<Real>& sums) {
  if (!IsFinite(sums.max)) return Nan<Real>();
  return Divide(static_cast<Real>(sums.mass), Real{1} + static_cast<Real>(sums.rest));
}

// Adds a row's Σ g² before its weight, which alone might take it out of range.
template <typename Real>
__device__ inline void AddSquare(Real square, Real weight, Totals* totals) {
  const double w = weight;
  if (square != 0) totals->square += static_cast<double>(square) * (w * w);
}

// Counts what of a plain row's elements is out of the ordinary: those of classes first, + step, …, < end
// and the `width` - 1 after each. `at` is the row's class 0, `stride` the elements between classes.
template <typename Real>
__device__ __attribute__((noinline)) void CountElements(const Params& p, const DeviceSegment& s,
                                                        std::int64_t at, std::int64_t stride,
                                                        int first, int step, int width, int end) {
  int predictions = 0, labels = 0, out_of_range = 0;
  for (int begin = first; begin < end; begin += step) {
    for (int c = begin; c < begin + width && c < end; ++c) {
      const std::int64_t i = at + c * stride;
      predictions += !IsFinite(Load<Real, kAnyDType>(s.prediction, i, p.prediction));
      if (p.class_ids) continue;
      const Real t = DecodeLabel(Load<Real, kAnyDType>(s.label, i, p.label), p.label == DType::kU8);
      labels += !IsFinite(t);
      out_of_range += IsFinite(t) && (t < 0 || t > 1);
    }
  }
  if (predictions != 0) {
    atomicAdd(&s.counters->nonfinite_predictions, static_cast<unsigned long long>(predictions));
  }
  if (labels != 0) {
    atomicAdd(&s.counters->nonfinite_labels, static_cast<unsigned long long>(labels));
  }
  if (out_of_range != 0) {
    atomicAdd(&s.counters->out_of_range_labels, static_cast<unsigned long long>(out_of_range));
  }
}

// A leaf's record from its threads' totals. `scratch` has 4·kMaxWarps entries.
__device__ inline void WriteLeaf(const Totals& totals, const DeviceSegment& s, std::int64_t leaf,
                                 double* scratch) {
  double sums[4] = {totals.loss, totals.weight, totals.square, static_cast<double>(totals.valid)};
  SumBlock(sums, scratch);
  if (threadIdx.x == 0) {
    s.leaves[leaf] = {sums[0], sums[1], sums[2], static_cast<std::int64_t>(sums[3])};
  }
}

}  // namespace softloss::cuda
