// The CUDA kernels on tensors that are in device memory, against a device-to-device copy of as many
// bytes. Inputs are random and far larger than the cache; outputs are poisoned before the first run,
// and compared afterwards: some rows with a computation in double, and everything bit for bit with
// the same rows elsewhere in the tensor (the inputs repeat with a period).
//
// cuda_kernels_bench OUTPUT.json [SUBSTRING]: all cases, or those whose name contains SUBSTRING.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/half.h"
#include "layout/dtype.h"
#include "layout/geometry.h"
#include "tests/bench/bench_report.h"

namespace softloss {
namespace {

using cuda::Counters;
using cuda::DeviceSegment;
using cuda::KernelKey;
using cuda::KernelLoss;
using cuda::LeafRecord;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

struct Case {
  std::string name;
  KernelLoss loss;
  DType dtype;  // of prediction and gradient
  DType label;
  std::int64_t classes;
  bool class_last;
  double at_least;
};

constexpr KernelLoss kSigmoid = KernelLoss::kSigmoidCrossEntropy;
constexpr KernelLoss kSoftmax = KernelLoss::kSoftmaxCrossEntropy;
constexpr std::int64_t kPredictionBytes = std::int64_t{1} << 30;
constexpr std::int64_t kPeriodBytes = std::int64_t{48} << 20;

std::vector<Case> Cases() {
  constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kU8 = DType::kU8;
  std::vector<Case> cases = {
      {"sigmoid f32", kSigmoid, kF32, kF32, 1, true, 0.9},
      {"sigmoid bf16", kSigmoid, kBF16, kBF16, 1, true, 0.9},
      {"sigmoid f32 u8-labels", kSigmoid, kF32, kU8, 1, true, 0.9},
  };
  const auto softmax = [&](DType dtype, std::int64_t classes, double at_least) {
    cases.push_back({std::string("softmax ") +
                         (dtype == kF32   ? "f32"
                          : dtype == kF16 ? "f16"
                                          : "bf16") +
                         " C=" + std::to_string(classes),
                     kSoftmax, dtype, dtype, classes, true, at_least});
  };
  for (std::int64_t c : {2, 8, 10, 21, 64}) softmax(kF32, c, 0.9);
  for (std::int64_t c : {128, 256, 1000}) softmax(kF32, c, 0.8);
  for (std::int64_t c : {4096, 8192, 16384, 32768, 65536, 128256, 262144}) softmax(kF32, c, 0.9);
  softmax(kF32, 1048576, 0.6);
  for (std::int64_t c : {10, 64}) softmax(kBF16, c, 0.9);
  softmax(kBF16, 1000, 0.8);
  for (std::int64_t c : {4096, 32768, 128256}) softmax(kBF16, c, 0.9);
  softmax(kF16, 1000, 0.8);
  cases.push_back({"softmax f32 u8-labels C=1000", kSoftmax, kF32, kU8, 1000, true, 0.8});
  cases.push_back({"softmax f32 tile C=21", kSoftmax, kF32, kF32, 21, false, 0.9});
  cases.push_back({"softmax f32 tile C=150", kSoftmax, kF32, kF32, 150, false, 0.9});
  cases.push_back({"softmax bf16 tile C=21", kSoftmax, kBF16, kBF16, 21, false, 0.9});
  return cases;
}

// Uniform in [0, 1), from a counter.
double Random(std::uint64_t i) {
  std::uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

void Put(DType dtype, double value, std::byte* data, std::int64_t i) {
  const auto store = [&](auto v) { std::memcpy(data + i * sizeof(v), &v, sizeof(v)); };
  switch (dtype) {
    case DType::kF16: return store(FloatToF16(static_cast<float>(value)));
    case DType::kBF16: return store(FloatToBF16(static_cast<float>(value)));
    case DType::kU8: return store(static_cast<std::uint8_t>(std::lrint(value * 255)));
    default: return store(static_cast<float>(value));
  }
}

double Get(DType dtype, const std::byte* data, std::int64_t i) {
  const auto load = [&](auto v) {
    std::memcpy(&v, data + i * sizeof(v), sizeof(v));
    return v;
  };
  switch (dtype) {
    case DType::kF16: return F16ToFloat(load(std::uint16_t{}));
    case DType::kBF16: return BF16ToFloat(load(std::uint16_t{}));
    case DType::kU8: return load(std::uint8_t{}) / 255.0;
    default: return load(float{});
  }
}

class DeviceMemory {
 public:
  explicit DeviceMemory(std::int64_t bytes) {
    Check(cudaMalloc(&data_, static_cast<std::size_t>(bytes + cuda::kSlack)), "cudaMalloc");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

// A case's tensors: `rows` rows that repeat every `period`, whole leaves.
class Problem {
 public:
  explicit Problem(const Case& c)
      : case_(c),
        leaf_(LeafRows(c.classes)),
        period_(
            std::max<std::int64_t>(
                1, kPeriodBytes / static_cast<std::int64_t>(SizeOf(c.dtype)) / c.classes / leaf_) *
            leaf_),
        rows_(std::max<std::int64_t>(2, kPredictionBytes /
                                            static_cast<std::int64_t>(SizeOf(c.dtype)) / c.classes /
                                            period_) *
              period_),
        prediction_(Bytes(c.dtype)),
        label_(Bytes(c.label)),
        gradient_(Bytes(c.dtype)),
        leaves_(rows_ / leaf_ * static_cast<std::int64_t>(sizeof(LeafRecord))),
        head_(sizeof(DeviceSegment) + sizeof(Counters)) {
    Fill();
    DeviceSegment s = {};
    s.rows = rows_;
    s.prediction = prediction_.data();
    s.label = label_.data();
    s.gradient = gradient_.data();
    s.leaves = reinterpret_cast<LeafRecord*>(leaves_.data());
    s.counters = reinterpret_cast<Counters*>(head_.data() + sizeof(DeviceSegment));
    Check(cudaMemset(head_.data(), 0, sizeof(DeviceSegment) + sizeof(Counters)), "memset");
    Check(cudaMemcpy(head_.data(), &s, sizeof(s), cudaMemcpyHostToDevice), "descriptor");
    Check(cudaMemset(gradient_.data(), 0xFF, static_cast<std::size_t>(Bytes(c.dtype))), "poison");
    key_.loss = c.loss;
    key_.prediction = key_.gradient = c.dtype;
    key_.label = c.label;
    key_.class_last = c.class_last;
    key_.classes = c.classes;
    key_.leaf_rows = leaf_;
  }

  // What the kernel must read and write.
  std::int64_t traffic() const { return 2 * Bytes(case_.dtype) + Bytes(case_.label); }

  void Launch(const cuda::DeviceLimits& limits) {
    Check(cuda::Launch(key_, limits, reinterpret_cast<const DeviceSegment*>(head_.data()), 1,
                       rows_ / leaf_, nullptr),
          "launch");
  }

  // Empty, or what is wrong.
  std::string Verify() const;

 private:
  std::int64_t Bytes(DType dtype) const {
    return rows_ * case_.classes * static_cast<std::int64_t>(SizeOf(dtype));
  }
  // Lines of contiguous repeating bytes: one for class-last tensors, one a class for tiles.
  std::int64_t lines() const { return case_.class_last ? 1 : case_.classes; }
  std::int64_t line_elements() const { return rows_ * case_.classes / lines(); }
  std::int64_t period_elements() const { return period_ * case_.classes / lines(); }

  void Fill();
  void Upload(const std::vector<std::byte>& period, DType dtype, std::byte* to) const;

  const Case& case_;
  std::int64_t leaf_;
  std::int64_t period_;
  std::int64_t rows_;
  DeviceMemory prediction_, label_, gradient_, leaves_, head_;
  std::vector<std::byte> host_prediction_, host_label_;  // one period, [lines, period elements]
  KernelKey key_;
};

void Problem::Fill() {
  const std::int64_t elements = period_ * case_.classes;
  host_prediction_.resize(static_cast<std::size_t>(elements) * SizeOf(case_.dtype));
  host_label_.resize(static_cast<std::size_t>(elements) * SizeOf(case_.label));
  std::vector<double> t(static_cast<std::size_t>(case_.classes));
  for (std::int64_t r = 0; r < period_; ++r) {
    double sum = 0;
    for (std::int64_t c = 0; c < case_.classes; ++c) {
      t[static_cast<std::size_t>(c)] =
          Random(static_cast<std::uint64_t>(2 * (r * case_.classes + c)));
      sum += t[static_cast<std::size_t>(c)];
    }
    if (case_.loss == kSigmoid || case_.label == DType::kU8) sum = 1;
    for (std::int64_t c = 0; c < case_.classes; ++c) {
      const std::int64_t i = case_.class_last ? r * case_.classes + c : c * period_ + r;
      const double x = 8 * Random(static_cast<std::uint64_t>(2 * (r * case_.classes + c) + 1)) - 4;
      Put(case_.dtype, x, host_prediction_.data(), i);
      Put(case_.label, t[static_cast<std::size_t>(c)] / sum, host_label_.data(), i);
    }
  }
  Upload(host_prediction_, case_.dtype, prediction_.data());
  Upload(host_label_, case_.label, label_.data());
}

void Problem::Upload(const std::vector<std::byte>& period, DType dtype, std::byte* to) const {
  const auto size = static_cast<std::int64_t>(SizeOf(dtype));
  const auto pitch = static_cast<std::size_t>(line_elements() * size);
  const auto width = static_cast<std::size_t>(period_elements() * size);
  for (std::size_t at = 0; at < pitch; at += width) {
    Check(cudaMemcpy2D(to + at, pitch, period.data(), width, width,
                       static_cast<std::size_t>(lines()), cudaMemcpyHostToDevice),
          "upload");
  }
}

std::string Problem::Verify() const {
  const auto size = static_cast<std::int64_t>(SizeOf(case_.dtype));
  const auto pitch = static_cast<std::size_t>(line_elements() * size);
  const auto width = static_cast<std::size_t>(period_elements() * size);
  std::vector<std::byte> first(width * static_cast<std::size_t>(lines()));
  std::vector<std::byte> other(first.size());
  for (std::size_t at = 0; at < pitch; at += width) {
    Check(cudaMemcpy2D(at == 0 ? first.data() : other.data(), width, gradient_.data() + at, pitch,
                       width, static_cast<std::size_t>(lines()), cudaMemcpyDeviceToHost),
          "download");
    if (at != 0 && first != other) return "rows with equal inputs have different gradients";
  }
  const double step = case_.dtype == DType::kF32   ? 4e-7
                      : case_.dtype == DType::kF16 ? 0x1p-11 + 4e-7
                                                   : 0x1p-8 + 4e-7;
  for (std::int64_t sample = 0; sample < 64; ++sample) {
    const std::int64_t r = sample * (period_ - 1) / 63;
    const auto index = [&](std::int64_t c) {
      return case_.class_last ? r * case_.classes + c : c * period_ + r;
    };
    const auto x = [&](std::int64_t c) {
      return Get(case_.dtype, host_prediction_.data(), index(c));
    };
    const auto t = [&](std::int64_t c) { return Get(case_.label, host_label_.data(), index(c)); };
    double max = -INFINITY, d = 0, label_sum = 0;
    for (std::int64_t c = 0; c < case_.classes; ++c) max = std::max(max, x(c));
    for (std::int64_t c = 0; c < case_.classes; ++c) {
      d += std::exp(x(c) - max);
      label_sum += t(c);
    }
    for (std::int64_t c = 0; c < case_.classes; ++c) {
      const double p =
          case_.loss == kSoftmax ? label_sum * std::exp(x(c) - max) / d : 1 / (1 + std::exp(-x(c)));
      const double error = std::fabs(Get(case_.dtype, first.data(), index(c)) - (p - t(c)));
      if (!(error <= step * std::max(1.0, label_sum))) {
        return "row " + std::to_string(r) + " class " + std::to_string(c) + ": error " +
               std::to_string(error);
      }
    }
  }
  Counters counters;
  Check(cudaMemcpy(&counters, head_.data() + sizeof(DeviceSegment), sizeof(counters),
                   cudaMemcpyDeviceToHost),
        "counters");
  if (counters.nonfinite_losses != 0) return "losses are not finite";
  return "";
}

class Timer {
 public:
  Timer() {
    Check(cudaEventCreate(&begin_), "event");
    Check(cudaEventCreate(&end_), "event");
  }
  template <typename F>
  double Seconds(F f) {
    Check(cudaEventRecord(begin_), "record");
    f();
    Check(cudaEventRecord(end_), "record");
    Check(cudaEventSynchronize(end_), "synchronize");
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, begin_, end_), "elapsed");
    return ms / 1e3;
  }

 private:
  cudaEvent_t begin_, end_;
};

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s OUTPUT.json [SUBSTRING]\n", argv[0]);
    return 2;
  }
  BenchReport report("cuda_kernels");
  int devices = 0;
  if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("cuda_kernels: skipped, %s\n", cudaGetErrorString(error));
    return report.Write(argv[1]) ? 0 : 1;
  }
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0), "properties");
  cuda::DeviceLimits limits;
  Check(cuda::QueryLimits(0, &limits), "limits");
  std::printf("%s, %d multiprocessors, compute capability %d.%d\n", properties.name,
              properties.multiProcessorCount, properties.major, properties.minor);

  Timer timer;
  int wrong = 0;
  for (const Case& c : Cases()) {
    if (argc > 2 && c.name.find(argv[2]) == std::string::npos) continue;
    Problem problem(c);
    problem.Launch(limits);
    Check(cudaDeviceSynchronize(), c.name.c_str());
    if (const std::string error = problem.Verify(); !error.empty()) {
      std::printf("%s: WRONG: %s\n", c.name.c_str(), error.c_str());
      ++wrong;
      continue;
    }
    // A copy reads and writes: half the bytes each way.
    const std::int64_t half = problem.traffic() / 2;
    DeviceMemory from(half), to(half);
    Check(cudaMemset(from.data(), 0x5A, static_cast<std::size_t>(half)), "memset");
    const double bytes = static_cast<double>(problem.traffic());
    BenchRow row = MeasurePairs(
        c.name, "GB/s",
        [&] { return bytes / timer.Seconds([&] { problem.Launch(limits); }) / 1e9; },
        [&] {
          return bytes / timer.Seconds([&] {
            Check(cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(half),
                                  cudaMemcpyDeviceToDevice),
                  "copy");
          }) / 1e9;
        },
        15);
    row.at_least = c.at_least;
    report.Add(std::move(row));
  }
  if (wrong != 0) std::printf("%d cases computed wrong results\n", wrong);
  return report.Write(argv[1]) && wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) { return softloss::Main(argc, argv); }
