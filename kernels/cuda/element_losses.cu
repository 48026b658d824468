// Elementwise losses, whatever the loss, the options, the types and the layout: a leaf a block, an element a
// thread, in fp64. Sigmoid cross entropy of logits has faster kernels (sigmoid_cross_entropy.cu).
#include "kernels/cuda/element_terms.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared.cuh"
#include "kernels/cuda/start.h"

namespace softloss::cuda {
namespace {

using elements::kThreads, elements::Locate, elements::Params, elements::Place, elements::Totals;

struct State {
  double scratch[4 * kMaxWarps];
};

template <class Term>
class Worker {
 public:
  __device__ Worker(const Params& p, const DeviceSegment& s) : p_(p), s_(s), term_(s.parameters) {}

  __device__ void Score(const Place& at, std::int64_t row, Totals* totals) const {
    double loss = 0, gradient = 0;
    double row_weight, t;
    if (Counts(at, row, &row_weight, &t)) {
      ++totals->valid;
      if (row_weight != 0) {
        const double class_weight =
            s_.class_weight == nullptr ? 1.0 : static_cast<double>(s_.class_weight[at.klass]);
        totals->weight += row_weight * class_weight;
        ScoreElement(at, t, row_weight * class_weight, &loss, &gradient, totals);
      }
    }
    const bool wide = p_.prediction == DType::kF64;
    if (!wide) loss = static_cast<float>(loss);
    totals->conditions.nonfinite_losses += !IsFinite(loss);
    totals->loss += loss;
    if (s_.row_loss != nullptr) {
      Store<double, kAnyDType>(s_.row_loss, at.offset, wide ? DType::kF64 : DType::kF32, loss);
    }
    if (!p_.has_gradient) return;
    totals->square += gradient * gradient;
    Store<double, kAnyDType>(s_.gradient, at.offset, p_.gradient, gradient);
  }

 private:
  // The element's row weight and label. False if it does not count.
  __device__ bool Counts(const Place& at, std::int64_t row, double* row_weight, double* t) const {
    *row_weight = 1;
    if (s_.mask != nullptr && s_.mask[row] == 0) return false;
    if (s_.row_weight != nullptr) {
      *row_weight = s_.row_weight[row];
      if (!(*row_weight >= 0 && IsFinite(*row_weight))) {
        ReportBadRow(row, &s_.counters->bad_row_weight);
        return false;
      }
    }
    if (p_.class_ids) {
      const std::int64_t id = LoadId(s_.label, row, p_.label);
      if (s_.has_ignore_index && id == s_.ignore_index) return false;
      if (id < 0 || id >= p_.classes) {
        ReportBadRow(row, &s_.counters->bad_label);
        return false;
      }
      *t = id == at.klass ? 1 : 0;
    } else {
      *t = Load<double, kAnyDType>(s_.label, at.offset, p_.label);
      if (p_.label == DType::kU8) *t = Over255(*t);
      if (p_.prediction != DType::kF64) *t = static_cast<float>(*t);
    }
    if (s_.class_mask != nullptr && s_.class_mask[at.klass] == 0) return false;
    return !(s_.has_ignore_value && !p_.class_ids && IsIgnored(*t, s_.ignore_value));
  }

  __device__ void ScoreElement(const Place& at, double t, double weight, double* loss,
                               double* gradient, Totals* totals) const {
    const double x = Load<double, kAnyDType>(s_.prediction, at.offset, p_.prediction);
    const bool probability = s_.parameters.probabilities;
    const bool scorable = probability ? x >= 0 && x <= 1 : x == x;
    totals->conditions.nonfinite_predictions += !IsFinite(x) || !scorable;
    totals->conditions.nonfinite_labels += !IsFinite(t);
    totals->conditions.out_of_range_labels += IsFinite(t) && (t < 0 || t > 1);
    const double epsilon = s_.label_smoothing;
    if (epsilon != 0) t = (1 - epsilon) * t + epsilon / 2;
    if (!scorable || t != t) {
      *loss = *gradient = Nan<double>();
      return;
    }
    const ElementAt element = probability ? FromProbability(x) : FromLogit(x);
    const double pos_weight =
        s_.pos_weight_count == 0
            ? 1.0
            : static_cast<double>(s_.pos_weight[s_.pos_weight_count == 1 ? 0 : at.klass]);
    const TermAt value = term_(element, t, pos_weight);
    *loss = Weigh(weight, value.loss);
    *gradient = weight * (probability ? value.slope / (element.s * element.not_s) : value.slope);
  }

  const Params& p_;
  const DeviceSegment& s_;
  const Term term_;
};

template <class Term>
__global__ void __launch_bounds__(kThreads) ElementKernel(const __grid_constant__ Params p) {
  double* const scratch = SharedState<State>()->scratch;
  const DeviceSegment& s = FindSegment(p.segments, p.count, blockIdx.x);
  const std::int64_t leaf = blockIdx.x - s.first_leaf;
  const std::int64_t begin = leaf * p.leaf_rows;
  const int rows = static_cast<int>(min(static_cast<std::int64_t>(p.leaf_rows), s.rows - begin));
  const std::int64_t count = (p.class_last ? rows : p.leaf_rows) * p.classes;
  const Worker<Term> worker(p, s);
  Totals totals;
  for (std::int64_t e = threadIdx.x; e < count; e += kThreads) {
    const Place at = Locate(p, s.rows, begin, e);
    if (at.row < rows) worker.Score(at, begin + at.row, &totals);
  }
  AddConditions(totals.conditions, s.counters);
  double sums[4] = {totals.loss, totals.weight, totals.square, static_cast<double>(totals.valid)};
  SumBlock(sums, scratch);
  if (threadIdx.x == 0) {
    s.leaves[leaf] = {sums[0], sums[1], sums[2], static_cast<std::int64_t>(sums[3])};
  }
}

template <class Term>
cudaError_t Run(const Params& p, cudaStream_t stream) {
  return Start(ElementKernel<Term>, {p.leaves, kThreads, sizeof(State), 1}, stream, p);
}

}  // namespace

cudaError_t LaunchElementLoss(const KernelKey& key, const DeviceSegment* segments, int count,
                              std::int64_t leaves, cudaStream_t stream) {
  const Params p = elements::MakeParams(key, segments, count, leaves);
  switch (key.loss) {
    case KernelLoss::kSigmoidCrossEntropy: return Run<BinaryCrossEntropyTerm>(p, stream);
    case KernelLoss::kBinaryBrier: return Run<BinaryBrierTerm>(p, stream);
    case KernelLoss::kQualityFocal: return Run<QualityFocalTerm>(p, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace softloss::cuda
