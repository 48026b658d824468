#include <algorithm>

#include "kernels/cuda/class_rows.cuh"
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

// Threads next to each other read what lies together: a row's classes if they are many and last, else
// neighbouring rows.
int ThreadsPerRow(const KernelKey& key) {
  constexpr std::int64_t kFew = 16, kMany = 2048;
  if (key.classes > kMany) return family::kThreads;
  if (key.class_last) return key.classes <= kFew ? 1 : kWarp;
  return key.leaf_rows >= kWarp ? 1 : kWarp;
}

template <class Term>
cudaError_t Run(const Params& p, cudaStream_t stream) {
  const Shape shape = {p.leaves, family::kThreads, sizeof(family::State), 1};
  return Start(family::Kernel<Term>, shape, stream, p);
}

}  // namespace

cudaError_t LaunchClassLoss(const KernelKey& key, const DeviceSegment* segments, int count,
                            std::int64_t leaves, cudaStream_t stream) {
  Params p = MakeParams(key, segments, count, leaves);
  p.threads_per_row = ThreadsPerRow(key);
  switch (key.loss) {
    case KernelLoss::kSoftmaxCrossEntropy: return Run<CrossEntropyTerm>(p, stream);
    case KernelLoss::kKlDivergence: return Run<KlDivergenceTerm>(p, stream);
    case KernelLoss::kReverseKlDivergence: return Run<ReverseKlTerm>(p, stream);
    case KernelLoss::kJensenShannonDivergence: return Run<JensenShannonTerm>(p, stream);
    case KernelLoss::kDistillation: return Run<DistillationTerm>(p, stream);
    case KernelLoss::kBrier: return Run<BrierTerm>(p, stream);
    case KernelLoss::kExpectedFocal: return Run<ExpectedFocalTerm>(p, stream);
    case KernelLoss::kPoly1CrossEntropy: return Run<Poly1Term>(p, stream);
    case KernelLoss::kGeneralizedCrossEntropy: return Run<GeneralizedCrossEntropyTerm>(p, stream);
    case KernelLoss::kSymmetricCrossEntropy: return Run<SymmetricCrossEntropyTerm>(p, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace softloss::cuda
