// Aggregation at scale, on drawn votes of the shape of the ReaL labels (185 k questions × 5 votes of 85
// raters, 3 answers) and on 100 M votes of that kind: seconds on all cores beside one, and the memory.
//
//   annotation_kernels_bench OUTPUT.json [large votes, default 100000000; 0 leaves that part out]
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "kernels/annotation/crowdlab.h"
#include "kernels/annotation/dawid_skene.h"
#include "kernels/annotation/majority.h"
#include "tests/bench/bench_report.h"
#include "tests/testing/random.h"
#include "tests/testing/thread_executor.h"

namespace softloss::annotation {
namespace {

Votes Draw(std::int64_t items, int annotators, int classes, int each) {
  testing::Random random(1);
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> annotator, label;
  item.reserve(items * each);
  annotator.reserve(items * each);
  label.reserve(items * each);
  for (std::int64_t i = 0; i < items; ++i) {
    const auto truth = static_cast<std::int32_t>(random.Int(0, classes));
    // `each` different annotators in ascending order.
    std::int64_t r = 0;
    for (int v = 0; v < each; ++v) {
      r += random.Int(v > 0 ? 1 : 0, annotators / each);
      item.push_back(i);
      annotator.push_back(static_cast<std::int32_t>(r));
      label.push_back(random.Chance(0.5 + 0.4 * static_cast<double>(r) / annotators)
                          ? truth
                          : static_cast<std::int32_t>(random.Int(0, classes)));
    }
  }
  return *Votes::Create({.num_classes = classes,
                         .num_items = items,
                         .num_annotators = annotators,
                         .item = item,
                         .annotator = annotator,
                         .label = label});
}

Distributions Predict(std::int64_t items, int classes) {
  testing::Random random(2);
  Distributions out = {.probability = {}, .present = std::vector<std::uint8_t>(items, 1)};
  for (std::int64_t i = 0; i < items; ++i) {
    const double p = random.Uniform();
    for (int k = 0; k < classes; ++k) {
      out.probability.push_back(k == i % classes ? p : (1 - p) / (classes - 1));
    }
  }
  return out;
}

double Seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double PeakGib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

int Main(const std::string& output, std::int64_t large) {
  BenchReport report("annotation_kernels");
  testing::ThreadExecutor all(static_cast<int>(std::thread::hardware_concurrency()));
  InlineExecutor one;
  const auto dawid_skene = [](const Votes& votes, int iterations, Executor& executor) {
    return Seconds([&] {
      const DawidSkeneOptions options = {.tolerance = 0, .max_iterations = iterations};
      if (!FitDawidSkene(votes, nullptr, {}, options, executor).ok()) std::abort();
    });
  };
  {
    const Votes votes = Draw(184'962, 85, 3, 5);
    const Distributions given = Predict(votes.num_items(), 3);
    report.Add(MeasurePairs(
        "dawid_skene 924,810 votes, 40 iterations; baseline: one core", "s",
        [&] { return dawid_skene(votes, 40, all); }, [&] { return dawid_skene(votes, 40, one); }));
    const auto crowdlab = [&](Executor& executor) {
      return Seconds([&] {
        if (!FitCrowdlab(votes, &given, executor).ok()) std::abort();
      });
    };
    report.Add(MeasurePairs(
        "crowdlab 924,810 votes; baseline: one core", "s", [&] { return crowdlab(all); },
        [&] { return crowdlab(one); }));
  }
  if (large > 0) {
    const Votes votes = Draw(large / 5, 1000, 3, 5);
    const double seconds = dawid_skene(votes, 10, all);
    // One run; the bar is in seconds and GiB, so the baseline is the bar.
    report.Add(
        {.name = "dawid_skene " + std::to_string(votes.size()) + " votes, 10 iterations; bar 60 s",
         .unit = "s",
         .value = seconds,
         .baseline = 60,
         .ratio = seconds / 60,
         .at_most = 1});
    const double gib = PeakGib();
    report.Add({.name = "memory of that process at its peak, votes' columns too; bar 8 GiB",
                .unit = "GiB",
                .value = gib,
                .baseline = 8,
                .ratio = gib / 8,
                .at_most = 1});
  }
  return report.Write(output) ? 0 : 1;
}

}  // namespace
}  // namespace softloss::annotation

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s OUTPUT.json [large votes]\n", argv[0]);
    return 2;
  }
  return softloss::annotation::Main(argv[1], argc > 2 ? std::atoll(argv[2]) : 100'000'000);
}
