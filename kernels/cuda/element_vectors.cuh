// Losses of elements in the simplest case, in accesses of 16 bytes.
#pragma once

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/vector.cuh"

namespace softloss::cuda::elements {

// Dense labels of known type as they are, class-last, and no masks or weights: an element's place does not
// matter, and neither do its row's others.
template <class T>
class SimpleLeaf {
 public:
  static constexpr int V = PerVector(T::kPrediction);
  static constexpr int kAtOnce = 2;  // vectors whose loads overlap

  static __device__ bool Takes(const Params& p, const DeviceSegment& s) {
    return p.class_last && s.mask == nullptr && s.row_weight == nullptr &&
           s.class_weight == nullptr && s.pos_weight_count == 0 && s.label_smoothing == 0 &&
           !s.has_ignore_value;
  }

  __device__ SimpleLeaf(const Params& p, const DeviceSegment& s, std::int64_t begin)
      : p_(p),
        s_(s),
        begin_(begin * p.classes),
        elements_(static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - begin) *
                                   p.classes)),
        aligned_(begin_ % V == 0) {}

  __device__ void Run(int lane, int lanes, Totals* totals) const {
    int e = lane * V;
    const int step = lanes * V;
    for (; e + (kAtOnce - 1) * step + V <= elements_; e += kAtOnce * step) {
      float x[kAtOnce][V], t[kAtOnce][V];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) Load(e + i * step, x[i], t[i]);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) Score(e + i * step, V, x[i], t[i], totals);
    }
    for (; e < elements_; e += step) {
      float x[V], t[V];
      const int count = min(V, elements_ - e);
      if (count == V) {
        Load(e, x, t);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          x[j] = t[j] = 0;
          if (j >= count) continue;
          x[j] = cuda::Load<float, T::kPrediction>(s_.prediction, begin_ + e + j, T::kPrediction);
          t[j] = cuda::Load<float, T::kLabel>(s_.label, begin_ + e + j, T::kLabel);
        }
      }
      Score(e, count, x, t, totals);
    }
    if (lane == 0) totals->valid = elements_;
  }

 private:
  __device__ void Load(int e, float (&x)[V], float (&t)[V]) const {
    const std::int64_t i = begin_ + e;
    LoadVector<T::kPrediction, V>(
        static_cast<const std::byte*>(s_.prediction) + i * kSizeOf<T::kPrediction>, aligned_, x);
    LoadVector<T::kLabel, V>(static_cast<const std::byte*>(s_.label) + i * kSizeOf<T::kLabel>,
                             aligned_, t);
  }

  __device__ void Score(int e, int count, const float (&x)[V], const float (&raw)[V],
                        Totals* totals) const {
    const RowExp<float> exp_of(0);
    float loss[V], gradient[V];
    float losses = 0, squares = 0;
    bool odd = false;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float t = DecodeLabel(raw[j], T::kLabel == DType::kU8);
      const float e_x = exp_of(-Abs(x[j]));
      const float r = Reciprocal(1.0f + e_x);
      const float coefficient = x[j] >= 0 ? 1.0f - t : t;
      const float linear = coefficient == 0 ? 0.0f : coefficient * Abs(x[j]);
      loss[j] = linear + Log1pOfUnit(e_x);
      gradient[j] = (x[j] >= 0 ? r : e_x * r) - t;
      odd |= !InUnitInterval(t) | !IsFinite(loss[j]);
    }
    if (odd || count < V) Amend(count, x, raw, loss, gradient, totals);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      losses += loss[j];
      squares = Fma(gradient[j], gradient[j], squares);
    }
    totals->loss += static_cast<double>(losses);
    if (p_.has_gradient) {
      totals->square += static_cast<double>(squares);
      Store<T::kPrediction>(s_.gradient, e, count, gradient);
    }
    if (s_.row_loss != nullptr) Store<DType::kF32>(s_.row_loss, e, count, loss);
  }

  // What is rare: elements that are not there, and those to be counted.
  __device__ void Amend(int count, const float (&x)[V], const float (&raw)[V], float (&loss)[V],
                        float (&gradient)[V], Totals* totals) const {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (j >= count) {
        loss[j] = gradient[j] = 0;
        continue;
      }
      const float t = DecodeLabel(raw[j], T::kLabel == DType::kU8);
      if (!IsFinite(t)) loss[j] = gradient[j] = Nan<float>();
      totals->conditions.nonfinite_predictions += !IsFinite(x[j]);
      totals->conditions.nonfinite_labels += !IsFinite(t);
      totals->conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
      totals->conditions.nonfinite_losses += !IsFinite(loss[j]);
    }
  }

  template <DType D>
  __device__ void Store(void* tensor, int e, int count, const float (&v)[V]) const {
    const std::int64_t i = begin_ + e;
    if (aligned_ && count == V) {
      StoreVector<D, V>(static_cast<std::byte*>(tensor) + i * kSizeOf<D>, v);
      return;
    }
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (j < count) cuda::Store<float, D>(tensor, i + j, D, v[j]);
    }
  }

  const Params& p_;
  const DeviceSegment& s_;
  const std::int64_t begin_;  // element
  const int elements_;
  const bool aligned_;
};

}  // namespace softloss::cuda::elements
