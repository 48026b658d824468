// The backend "cpu": SIMD kernels, chosen for the processor at run time.
#include <algorithm>
#include <memory>
#include <string>

#include "absl/container/inlined_vector.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/backends.h"
#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/element_loss.h"
#include "kernels/cpu/region_scorer.h"
#include "kernels/cpu/scorer.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/target.h"
#include "kernels/row_semantics.h"

namespace softloss {
namespace cpu {

absl::Status ScoreLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                         std::int64_t leaf_end, Scratch& scratch, Tally& tally) {
  const bool wide = key.prediction == DType::kF64;
  const auto score = IsElementwise(key.loss)
                         ? (wide ? ScoreSigmoidLeaves<double> : ScoreSigmoidLeaves<float>)
                     : key.label.tail == TailRule::kBucket
                         ? (wide ? ScoreBucketLeaves<double> : ScoreBucketLeaves<float>)
                         : (wide ? ScoreClassLeaves<double> : ScoreClassLeaves<float>);
  return score(key, segment, leaf_begin, leaf_end, scratch, tally);
}

}  // namespace cpu

namespace {

// Elements that are worth handing to another thread.
constexpr std::int64_t kTaskElements = 1 << 17;
// Gradients of so many bytes would push all else out of the caches and not be there when they are
// read.
constexpr std::int64_t kStreamedBytes = 32 << 20;

// Some leaves of a segment.
struct Task {
  Segment* segment = nullptr;
  std::int64_t leaf_begin = 0;
  std::int64_t leaf_end = 0;
  Tally tally;
  absl::Status status;
};

void Run(const ScoreKey& key, bool streams, Task& task) {
  thread_local cpu::Scratch scratch;
  scratch.gradient.streams = streams;
  task.status =
      cpu::ScoreLeaves(key, *task.segment, task.leaf_begin, task.leaf_end, scratch, task.tally);
  if (streams) cpu::FlushStream();
}

bool StreamsGradients(const ScoreKey& key, absl::Span<const Segment> batch) {
  // Elements are written one by one as they are read: copying them once more would cost what it saves.
  if (!key.gradient || IsElementwise(key.loss)) return false;
  std::int64_t rows = 0;
  for (const Segment& segment : batch) rows += segment.rows;
  return rows * key.classes * static_cast<std::int64_t>(SizeOf(*key.gradient)) >= kStreamedBytes;
}

class CpuBackend final : public Backend {
 public:
  std::string_view name() const override { return "cpu"; }
  std::string numerics_id() const override { return NumericsId(name(), cpu::TargetName()); }
  absl::Status Supports(const ScoreKey& key) const override {
    const LossSpec spec = {.loss = key.loss};
    const bool serves = IsRegional(key.loss)      ? true
                        : IsElementwise(key.loss) ? cpu::ServesElements(spec)
                                                  : cpu::FindClassLoss<float>(spec) != nullptr;
    return CheckServed(name(), key, serves, /*serves_general=*/true,
                       /*serves_sparse=*/true);
  }

  absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) override {
    if (IsRegional(key.loss)) {
      for (Segment& segment : batch) {
        key.prediction == DType::kF64 ? cpu::ScoreRegions<double>(key, segment, executor)
                                      : cpu::ScoreRegions<float>(key, segment, executor);
      }
      return absl::OkStatus();
    }
    const std::int64_t leaf_elements = LeafRows(key.classes) * key.classes;
    const std::int64_t task_leaves = executor.concurrency() == 1
                                         ? std::int64_t{1} << 62
                                         : std::max<std::int64_t>(1, kTaskElements / leaf_elements);
    absl::InlinedVector<Task, 8> tasks;
    for (Segment& segment : batch) {
      segment.tally = Tally();
      segment.status = absl::OkStatus();
      const auto leaves = static_cast<std::int64_t>(segment.leaves.size());
      for (std::int64_t begin = 0; begin < leaves;) {
        const std::int64_t end = begin + std::min(task_leaves, leaves - begin);
        tasks.push_back({&segment, begin, end, {}, {}});
        begin = end;
      }
    }
    const bool streams = StreamsGradients(key, batch);
    executor.ParallelFor(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
      Run(key, streams, tasks[static_cast<std::size_t>(i)]);
    });
    for (Task& task : tasks) {  // in the order of rows: the first error stands
      task.segment->tally += task.tally;
      if (task.segment->status.ok()) task.segment->status = std::move(task.status);
    }
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend() { return std::make_unique<CpuBackend>(); }

}  // namespace softloss
