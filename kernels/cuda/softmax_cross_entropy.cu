// Softmax cross entropy: a problem a row (kernels/loss.h has the formula), in the regime that suits the
// number of classes and the layout. Which one depends on the key and the kind of device alone.
#include "kernels/cuda/softmax.h"

namespace softloss::cuda {
namespace {

double LabelStep(const KernelKey& key) {
  switch (key.label) {
    case DType::kF16: return 0x1p-11;
    case DType::kBF16: return 0x1p-8;
    case DType::kF64: return 0x1p-53;
    case DType::kU8: return key.row_sum ? 0x1p-24 : 1.0 / 255;
    default: return 0x1p-24;
  }
}

}  // namespace

Params MakeParams(const KernelKey& key, const DeviceSegment* segments, int count,
                  std::int64_t leaves) {
  Params p{};
  p.segments = segments;
  p.count = count;
  p.leaves = leaves;
  p.classes = static_cast<int>(key.classes);
  p.leaf_rows = static_cast<int>(key.leaf_rows);
  p.prediction = key.prediction;
  p.label = key.label;
  p.gradient = key.gradient;
  p.prediction_size = static_cast<int>(SizeOf(key.prediction));
  p.label_size = static_cast<int>(SizeOf(key.label));
  p.gradient_size = key.has_gradient ? static_cast<int>(SizeOf(key.gradient)) : 0;
  p.has_gradient = key.has_gradient;
  p.class_ids = key.class_ids;
  p.row_sum = key.row_sum;
  p.class_last = key.class_last;
  p.tolerance = 1e-4 + static_cast<double>(key.classes) * 0.5 * LabelStep(key);
  return p;
}

cudaError_t LaunchSoftmax(const KernelKey& key, const DeviceLimits& limits,
                          const DeviceSegment* segments, int count, std::int64_t leaves,
                          cudaStream_t stream) {
  const Params p = MakeParams(key, segments, count, leaves);
  if (FitsPlanes(key)) return LaunchPlanes(key, p, stream);
  if (FitsRuns(key)) return LaunchRuns(key, p, stream);
  return LaunchRows(key, limits, p, stream);
}

}  // namespace softloss::cuda
