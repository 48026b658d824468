// The CPU backend, loss and gradient, on tensors far larger than the caches: against c = a + b over the
// same memory, against itself with narrower types, and with two threads.
//
// kernels_bench OUTPUT.json [SUBSTRING]: all cases, or those whose name contains SUBSTRING.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hwy/aligned_allocator.h"
#include "kernels/backends.h"
#include "kernels/engine.h"
#include "kernels/half.h"
#include "tests/bench/bench_report.h"
#include "tests/bench/triad.h"
#include "tests/bench/worst_error.h"
#include "tests/testing/random.h"
#include "tests/testing/thread_executor.h"

namespace softloss {
namespace {

// 12 bytes each: 402 MB and more.
constexpr std::int64_t kElements = std::int64_t{1} << 25;

struct Case {
  const char* name;
  Loss loss;
  std::int64_t classes;
  std::int64_t inner = 1;  // 1: class axis last; else [N, classes, inner]
  double at_least;
  double aim;
};

constexpr Loss kSoftmax = Loss::kSoftmaxCrossEntropy;
constexpr Loss kSigmoid = Loss::kSigmoidCrossEntropy;
constexpr Case kCases[] = {
    {"softmax C=2", kSoftmax, 2, 1, 0.40, 0.65},
    {"softmax C=10", kSoftmax, 10, 1, 0.40, 0.65},
    {"softmax C=21", kSoftmax, 21, 1, 0.40, 0.65},
    {"softmax C=64", kSoftmax, 64, 1, 0.55, 0.75},
    {"softmax C=1000", kSoftmax, 1000, 1, 0.55, 0.75},
    {"softmax C=32768", kSoftmax, 32768, 1, 0.55, 0.75},
    {"softmax C=128256", kSoftmax, 128256, 1, 0.55, 0.75},
    {"softmax NCHW 21x512x512", kSoftmax, 21, 512 * 512, 0.40, 0.65},
    {"sigmoid", kSigmoid, 1, 1, 0.40, 0.65},
};

template <typename F>
double Seconds(F body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The tensors of all cases: whichever is larger of kElements rounded up to whole images of a case.
class Tensors {
 public:
  explicit Tensors(std::size_t n)
      : n_(n),
        x(hwy::AllocateAligned<float>(n)),
        t(hwy::AllocateAligned<float>(n)),
        gradient(hwy::AllocateAligned<float>(n)),
        narrow_x(hwy::AllocateAligned<std::uint16_t>(n)),
        narrow_t(hwy::AllocateAligned<std::uint16_t>(n)) {
    std::memset(gradient.get(), 0, n * sizeof(float));
    testing::Random random(11);
    noise_.resize(1 << 20);
    for (float& v : noise_) v = static_cast<float>(4 * random.Normal());
  }

  // Logits, and labels whose rows sum to 1.
  void Fill(const Case& c) {
    const auto classes = static_cast<std::size_t>(c.classes),
               inner = static_cast<std::size_t>(c.inner);
    for (std::size_t i = 0; i < n_; ++i) x[i] = noise_[i % noise_.size()];
    for (std::size_t image = 0; image + classes * inner <= n_; image += classes * inner) {
      for (std::size_t i = 0; i < inner; ++i) {
        float sum = 0;
        const auto at = [&](std::size_t k) { return image + k * inner + i; };
        for (std::size_t k = 0; k < classes; ++k) {
          const float v = noise_[(at(k) * 7 + 3) % noise_.size()];
          sum += t[at(k)] = v * v;
        }
        const float scale = c.loss == kSigmoid ? 1.0f / 400 : 1 / sum;
        for (std::size_t k = 0; k < classes; ++k) t[at(k)] = std::min(1.0f, t[at(k)] * scale);
      }
    }
    std::transform(x.get(), x.get() + n_, narrow_x.get(), FloatToBF16);
  }
  void LabelsToBF16() { std::transform(t.get(), t.get() + n_, narrow_t.get(), FloatToBF16); }
  void LabelsToU8() {
    auto* bytes = reinterpret_cast<std::uint8_t*>(narrow_t.get());
    std::transform(t.get(), t.get() + n_, bytes,
                   [](float v) { return static_cast<std::uint8_t>(v * 255 + 0.5f); });
  }

 private:
  const std::size_t n_;
  std::vector<float> noise_;

 public:
  hwy::AlignedFreeUniquePtr<float[]> x, t, gradient;
  hwy::AlignedFreeUniquePtr<std::uint16_t[]> narrow_x, narrow_t;
};

class Bench {
 public:
  Bench(const std::string& filter)
      : filter_(filter), tensors_(static_cast<std::size_t>(kElements + kMaxImage)) {}

  void Run() {
    for (const Case& c : kCases) {
      Add(
          c, absl::StrCat(c.name, ": of triad"), c.at_least, c.aim, true, "GB/s",
          [&] { return Bytes(c) / Score(c, {}, 1); }, [&] { return Bytes(c) / Triad(c, 1); });
    }
    for (const Case& c : kCases) {
      const auto rate = [&](const Types& types) { return Elements(c) / 1e9 / Score(c, types, 1); };
      Add(
          c, absl::StrCat(c.name, ": bf16 against f32"), 1.0, 1.6, false, "Gelem/s",
          [&] { return rate(kBF16); }, [&] { return rate({}); });
      Add(
          c, absl::StrCat(c.name, ": u8 labels against f32"), 1.0, 1.6, false, "Gelem/s",
          [&] { return rate(kU8); }, [&] { return rate({}); });
    }
    for (const Case& c : kCases) {
      Add(
          c, absl::StrCat(c.name, ": 2 threads, of triad's"), 0.85, 1.0, false, "scaling",
          [&] { return Score(c, {}, 1) / Score(c, {}, 2); },
          [&] { return Triad(c, 1) / Triad(c, 2); });
    }
  }

  const BenchReport& report() const { return report_; }

 private:
  struct Types {
    DType prediction = DType::kF32, label = DType::kF32, gradient = DType::kF32;
  };
  static constexpr Types kBF16 = {DType::kBF16, DType::kBF16, DType::kBF16};
  static constexpr Types kU8 = {DType::kF32, DType::kU8, DType::kF32};
  static constexpr std::int64_t kMaxImage = 21 * 512 * 512;

  // Whole rows and images of at least kElements.
  static std::int64_t Images(const Case& c) {
    return (kElements + c.classes * c.inner - 1) / (c.classes * c.inner);
  }
  static double Elements(const Case& c) {
    return static_cast<double>(Images(c) * c.classes * c.inner);
  }
  static double Bytes(const Case& c) { return 12e-9 * Elements(c); }

  void Add(const Case& c, std::string name, double at_least, double aim, bool errors,
           const char* unit, const std::function<double()>& ours,
           const std::function<double()>& baseline) {
    if (name.find(filter_) == std::string::npos) return;
    tensors_.Fill(c);
    if (name.find("bf16") != std::string::npos) tensors_.LabelsToBF16();
    if (name.find("u8") != std::string::npos) tensors_.LabelsToU8();
    BenchRow row = MeasurePairs(std::move(name), unit, ours, baseline);
    row.at_least = at_least;
    row.aim = aim;
    if (errors) {
      const WorstError worst = FindWorstError(*backend_, c.loss, c.classes, c.inner == 1);
      row.loss_error = worst.loss;
      row.gradient_error = worst.gradient;
    }
    report_.Add(std::move(row));
  }

  double Score(const Case& c, const Types& types, int threads) {
    ItemShape item;
    item.shape = {Images(c), c.classes};
    if (c.inner > 1) item.shape.push_back(c.inner);
    if (c.classes > 1) item.class_axis = 1;
    item.prediction = types.prediction;
    item.label.dtype = types.label;
    item.gradient = types.gradient;
    LossSpec spec;
    spec.loss = c.loss;
    const EngineInputs in = {types.prediction == DType::kF32
                                 ? static_cast<const void*>(tensors_.x.get())
                                 : tensors_.narrow_x.get(),
                             types.label == DType::kF32 ? static_cast<const void*>(tensors_.t.get())
                                                        : tensors_.narrow_t.get()};
    return Seconds([&] {
      testing::ThreadExecutor executor(threads);
      const auto totals = ScoreItem(*backend_, executor, spec, item, in, {tensors_.gradient.get()});
      if (totals.ok() && std::isfinite(totals->loss)) return;
      std::fprintf(stderr, "%s\n", totals.status().ToString().c_str());
      std::exit(1);
    });
  }

  // The faster of the two kinds of stores.
  double Triad(const Case& c, int threads) {
    double best = 1e9;
    for (const auto triad : {&PlainTriad, &StreamingTriad}) {
      const auto n = static_cast<std::size_t>(Elements(c)), part = n / 2 / 16 * 16;
      const auto range = [&](std::size_t begin, std::size_t end) {
        triad(tensors_.x.get() + begin, tensors_.t.get() + begin, end - begin,
              tensors_.gradient.get() + begin);
      };
      best = std::min(best, Seconds([&] {
                        if (threads == 1) return range(0, n);
                        std::thread other(range, part, n);
                        range(0, part);
                        other.join();
                      }));
    }
    return best;
  }

  const std::string filter_;
  const std::unique_ptr<Backend> backend_ = MakeCpuBackend();
  Tensors tensors_;
  BenchReport report_{"kernels"};
};

int Main(const std::string& output, const std::string& filter) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Bench bench(filter);
  bench.Run();
  return bench.report().Write(output) ? 0 : 1;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: kernels_bench OUTPUT.json [SUBSTRING]\n");
    return 2;
  }
  return softloss::Main(argv[1], argc == 3 ? argv[2] : "");
}
