#include "kernels/cpu/region_scorer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/region_kernels.h"
#include "kernels/cpu/region_reader.h"
#include "kernels/cpu/stream.h"
#include "kernels/reference_losses.h"

namespace softloss::cpu {
namespace {

// Positions and elements that are summed one after another, at least; sums of more are added in a tree.
constexpr std::size_t kBlockRows = 256, kBlockElements = 1 << 15;
// Elements that are worth handing to another thread.
constexpr std::size_t kTaskElements = 1 << 17;
// Images are taken in groups of so many elements a thread: while they are small, their second pass
// finds them in the caches.
constexpr std::size_t kGroupElements = 1 << 17;
// Gradients of so many bytes would push all else out of the caches.
constexpr std::int64_t kStreamedBytes = 32 << 20;

// `rows` rows of `width` entries; row 0 becomes their sum, row by row in pairs.
template <typename V>
void SumInPairs(V* values, std::size_t rows, std::size_t width) {
  for (std::size_t n = rows; n > 1; n = (n + 1) / 2) {
    for (std::size_t i = 0; i < n / 2; ++i) {
      for (std::size_t c = 0; c < width; ++c) {
        V sum = values[2 * i * width + c];
        sum += values[(2 * i + 1) * width + c];
        values[i * width + c] = sum;
      }
    }
    if (n % 2 == 1) std::copy_n(values + (n - 1) * width, width, values + n / 2 * width);
  }
}

template <typename T>
T Clamped(reference::Real value) {
  constexpr T kMost = std::numeric_limits<T>::max();
  if (std::isnan(value)) return std::numeric_limits<T>::quiet_NaN();
  return static_cast<T>(std::clamp<reference::Real>(value, -kMost, kMost));
}

template <typename T>
class RegionScorer {
 public:
  RegionScorer(const ScoreKey& key, Segment& segment, Executor& executor)
      : key_(key),
        segment_(segment),
        spec_(*segment.spec),
        executor_(executor),
        kernels_(FindRegionKernels<T>(key.activation, spec_.prediction_kind)),
        selection_(spec_, static_cast<std::size_t>(key.classes)),
        classes_(selection_.count()),
        image_rows_(static_cast<std::size_t>(segment.rows) / segment.leaves.size()),
        read_rows_(RegionReadRows(static_cast<std::size_t>(key.classes))),
        streams_(key.gradient.has_value() &&
                 static_cast<std::int64_t>(TotalSize(segment.gradient)) >= kStreamedBytes) {
    block_rows_ = read_rows_;
    while (block_rows_ < kBlockRows || block_rows_ * classes_ < kBlockElements) block_rows_ *= 2;
    blocks_ = (image_rows_ + block_rows_ - 1) / block_rows_;
  }

  void Run() {
    segment_.tally = Tally();
    segment_.status = absl::OkStatus();
    const std::size_t threads = static_cast<std::size_t>(std::max(1, executor_.concurrency()));
    const std::size_t images = segment_.leaves.size();
    const std::size_t group =
        std::max<std::size_t>(1, threads * kGroupElements / (image_rows_ * classes_));
    losses_.resize(segment_.row_loss.empty() ? 0 : static_cast<std::size_t>(key_.classes));
    for (std::size_t i = 0; i < images && segment_.status.ok(); i += group) {
      ScoreImages(i, std::min(group, images - i));
    }
  }

 private:
  // A run of blocks of a group, for one thread.
  struct Task {
    std::size_t begin = 0, end = 0;
    Tally tally;
    absl::Status status;
  };

  void ScoreImages(std::size_t first, std::size_t images) {
    std::vector<RegionSums> sums(images * blocks_ * classes_);
    ForBlocks(images, [&](std::size_t block, RegionReader<T>& reader, Task& task) {
      RegionSums* const to = sums.data() + block * classes_;
      return ForReads(first * blocks_ + block, [&](std::int64_t row, std::size_t n) {
        absl::Status status = reader.Read(row, n, &task.tally);
        if (!status.ok()) return status;
        reader.Predict(kernels_, &task.tally);
        if (kernels_.sums(reader.block(), to)) reader.CountElements(task.tally);
        return absl::OkStatus();
      });
    });
    if (!segment_.status.ok()) return;

    std::vector<RegionSlopes<T>> slopes(images * classes_);
    for (std::size_t i = 0; i < images; ++i) {
      RegionSums* const image = sums.data() + i * blocks_ * classes_;
      SumInPairs(image, blocks_, classes_);
      FinishImage(first + i, image, slopes.data() + i * classes_);
    }
    if (!key_.gradient.has_value()) return;

    std::vector<double> squares(images * blocks_);
    ForBlocks(images, [&](std::size_t block, RegionReader<T>& reader, Task&) {
      return ForReads(first * blocks_ + block, [&](std::int64_t row, std::size_t n) {
        absl::Status status = reader.Read(row, n, nullptr);
        if (!status.ok()) return status;
        reader.Predict(kernels_, nullptr);
        squares[block] +=
            kernels_.gradient(reader.block(), slopes.data() + block / blocks_ * classes_);
        reader.WriteGradient();
        return absl::OkStatus();
      });
    });
    for (std::size_t i = 0; i < images; ++i) {
      SumInPairs(squares.data() + i * blocks_, blocks_, 1);
      segment_.leaves[first + i].gradient_square = squares[i * blocks_];
    }
  }

  // Calls body(block, reader, task) for the blocks of a group of images.
  template <class Body>
  void ForBlocks(std::size_t images, Body body) {
    const std::size_t blocks = images * blocks_;
    const std::size_t block_elements = std::min(block_rows_, image_rows_) * classes_;
    const std::size_t step = executor_.concurrency() == 1
                                 ? blocks
                                 : std::max<std::size_t>(1, kTaskElements / block_elements);
    std::vector<Task> tasks((blocks + step - 1) / step);
    executor_.ParallelFor(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
      thread_local Scratch scratch;
      scratch.gradient.streams = streams_;
      Task& task = tasks[static_cast<std::size_t>(i)];
      task.begin = static_cast<std::size_t>(i) * step;
      task.end = std::min(task.begin + step, blocks);
      RegionReader<T> reader(key_, segment_, scratch);
      for (std::size_t b = task.begin; b < task.end && task.status.ok(); ++b) {
        task.status = body(b, reader, task);
      }
      if (streams_) FlushStream();
    });
    for (Task& task : tasks) {  // in the order of rows: the first error stands
      segment_.tally += task.tally;
      if (segment_.status.ok()) segment_.status = std::move(task.status);
    }
  }

  // Calls read(row, rows) for the parts of a block, of all of the segment's.
  template <class ReadRows>
  absl::Status ForReads(std::size_t block, ReadRows read) const {
    const std::size_t image = block / blocks_, begin = block % blocks_ * block_rows_;
    const std::size_t end = std::min(begin + block_rows_, image_rows_);
    for (std::size_t r = begin; r < end; r += read_rows_) {
      absl::Status status =
          read(static_cast<std::int64_t>(image * image_rows_ + r), std::min(read_rows_, end - r));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // From an image's sums to its losses and slopes.
  void FinishImage(std::size_t image, const RegionSums* sums, RegionSlopes<T>* slopes) {
    LeafSum& leaf = segment_.leaves[image] = LeafSum();
    std::fill(losses_.begin(), losses_.end(), T(0));
    for (std::size_t i = 0; i < classes_; ++i) {
      const RegionSums& region = sums[i];
      if (region.count == 0) continue;
      const std::size_t c = selection_.Index(i);
      const double weight =
          spec_.class_weight.empty() ? 1 : static_cast<double>(spec_.class_weight[c]);
      const reference::RegionTerm term = reference::ScoreRegion(
          spec_.loss, parameters_, {region.both, region.over, region.under, 0, 0});
      const auto weighted = [&](reference::Real v) { return reference::Term(weight, v); };
      const auto loss = static_cast<double>(weighted(term.loss.value));
      slopes[i] = {Clamped<T>(weighted(term.above.value)), Clamped<T>(weighted(term.below.value)),
                   Clamped<T>(weighted((term.above.value + term.below.value) / 2))};
      leaf.loss += loss;
      leaf.weight += weight;
      ++segment_.tally.valid;
      segment_.tally.nonfinite_losses += !std::isfinite(loss);
      if (!losses_.empty()) losses_[c] = static_cast<T>(loss);
    }
    if (losses_.empty()) return;
    Sink sink;
    sink.Reset(segment_.row_loss);
    const std::size_t bytes = losses_.size() * sizeof(T);
    sink.Write(static_cast<std::int64_t>(image * bytes), losses_.data(), bytes);
  }

  const ScoreKey& key_;
  Segment& segment_;
  const LossSpec& spec_;
  Executor& executor_;
  const LossParameters parameters_ = ParametersOf(spec_);
  const RegionKernels<T> kernels_;
  const ClassSelection selection_;
  const std::size_t classes_, image_rows_, read_rows_;
  const bool streams_;
  std::size_t block_rows_ = 0, blocks_ = 0;  // of an image
  std::vector<T> losses_;                    // of an image
};

}  // namespace

template <typename T>
void ScoreRegions(const ScoreKey& key, Segment& segment, Executor& executor) {
  RegionScorer<T>(key, segment, executor).Run();
}

template void ScoreRegions<float>(const ScoreKey&, Segment&, Executor&);
template void ScoreRegions<double>(const ScoreKey&, Segment&, Executor&);

}  // namespace softloss::cpu
