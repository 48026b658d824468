// FindLabelIssues: the filters over all items at once.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/confident_learning.h"

namespace softloss::annotation {
namespace {

// Labels whose probability is this near to the largest are not counted off the diagonal.
constexpr double kTieSlack = 1e-6;
constexpr std::int64_t kBlock = 4096;  // rows a task
constexpr int kShards = 16;

absl::Status Validate(int num_classes, absl::Span<const std::int32_t> label,
                      absl::Span<const double> probabilities, const IssueOptions& options) {
  if (num_classes < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_classes: must be at least 2; was ", num_classes));
  }
  if (probabilities.size() != label.size() * num_classes) {
    return absl::InvalidArgumentError(absl::StrCat("probabilities: must have ", num_classes,
                                                   " values a label (", label.size(), "); has ",
                                                   probabilities.size()));
  }
  if (!(options.frac_noise >= 0 && options.frac_noise <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("frac_noise: must be from 0 to 1; was ", options.frac_noise));
  }
  if (options.min_items_per_class < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "min_items_per_class: must not be negative; was ", options.min_items_per_class));
  }
  for (std::size_t i = 0; i < label.size(); ++i) {
    if (label[i] < 0 || label[i] >= num_classes) {
      return absl::InvalidArgumentError(
          absl::StrCat("label[", i, "]: must be from 0 to ", num_classes - 1, "; was ", label[i]));
    }
  }
  return absl::OkStatus();
}

class IssueFinder {
 public:
  IssueFinder(int num_classes, absl::Span<const std::int32_t> label,
              absl::Span<const double> probabilities, const IssueOptions& options,
              Executor& executor)
      : k_end_(num_classes),
        label_(label),
        p_(probabilities),
        options_(options),
        executor_(executor) {}

  LabelIssues Find() {
    FindThresholds();
    CountJoint();
    out_.issue.assign(label_.size(), 0);
    switch (options_.filter) {
      case IssueFilter::kPruneByNoiseRate: Prune(&IssueFinder::MarkByNoiseRate); break;
      case IssueFilter::kPruneByClass: Prune(&IssueFinder::MarkByClass); break;
      case IssueFilter::kBoth: {
        Prune(&IssueFinder::MarkByNoiseRate);
        std::vector<std::uint8_t> first(label_.size(), 0);
        first.swap(out_.issue);
        Prune(&IssueFinder::MarkByClass);
        for (std::size_t i = 0; i < first.size(); ++i) out_.issue[i] &= first[i];
        break;
      }
      case IssueFilter::kConfidentLearning: MarkOffDiagonal(); break;
      case IssueFilter::kPredictedNeqGiven: out_.issue.assign(label_.size(), 1); break;
      case IssueFilter::kLowSelfConfidence:
      case IssueFilter::kLowNormalizedMargin: MarkLowest(); return std::move(out_);
    }
    for (std::size_t i = 0; i < label_.size(); ++i) {
      if (likeliest_[i] == label_[i]) out_.issue[i] = 0;
    }
    return std::move(out_);
  }

 private:
  using Scored = std::vector<std::pair<double, std::int64_t>>;  // (score, item)

  Row row(std::int64_t i) const { return p_.subspan(i * k_end_, k_end_); }

  void FindThresholds() {
    // A few sums, not one a block: they merge to the same bits however the rows are cut.
    const auto n = static_cast<std::int64_t>(label_.size());
    std::vector<ConfidentThresholds> sums(kShards, ConfidentThresholds(k_end_));
    executor_.ParallelFor(kShards, [&](std::int64_t shard) {
      for (std::int64_t i = n * shard / kShards; i < n * (shard + 1) / kShards; ++i) {
        sums[shard].Add(label_[i], row(i));
      }
    });
    for (int shard = 1; shard < kShards; ++shard) sums[0] += sums[shard];
    out_.thresholds = sums[0].Finish();
  }

  void CountJoint() {
    sure_.resize(label_.size());
    likeliest_.resize(label_.size());
    const auto n = static_cast<std::int64_t>(label_.size());
    executor_.ParallelFor((n + kBlock - 1) / kBlock, [&](std::int64_t block) {
      for (std::int64_t i = block * kBlock; i < std::min(n, (block + 1) * kBlock); ++i) {
        sure_[i] = ConfidentClass(row(i), out_.thresholds);
        likeliest_[i] = ArgMax(row(i));
      }
    });
    std::vector<std::int64_t> labels(k_end_);
    std::vector<double> counts(static_cast<std::size_t>(k_end_) * k_end_);
    for (std::size_t i = 0; i < label_.size(); ++i) {
      ++labels[label_[i]];
      if (sure_[i] >= 0) ++counts[static_cast<std::size_t>(label_[i]) * k_end_ + sure_[i]];
    }
    for (int c = 0; c < k_end_; ++c) {
      const auto cells =
          absl::MakeSpan(counts).subspan(static_cast<std::size_t>(c) * k_end_, k_end_);
      cells[c] = std::max(cells[c], 1.0);
      const double sum = std::accumulate(cells.begin(), cells.end(), 0.0);
      for (double& cell : cells) cell = cell / sum * static_cast<double>(labels[c]);
      const std::vector<std::int64_t> rounded = RoundKeepingSum(cells);
      out_.joint_counts.insert(out_.joint_counts.end(), rounded.begin(), rounded.end());
    }
  }

  // How many items of a label to take for each other class, and (in the label's place) to leave.
  std::vector<std::int64_t> PruneCounts(int label) const {
    const auto counts = absl::MakeConstSpan(out_.joint_counts)
                            .subspan(static_cast<std::size_t>(label) * k_end_, k_end_);
    const auto keep = std::max<std::int64_t>(counts[label], options_.min_items_per_class);
    const auto wrong =
        std::count_if(counts.begin(), counts.end(), [](auto n) { return n != 0; }) - 1;
    const double less = static_cast<double>(keep - counts[label]) /
                        static_cast<double>(std::max<std::int64_t>(wrong, 1));
    std::vector<std::int64_t> prune(k_end_);
    double left = 0;  // of the noise, by frac_noise
    for (int k = 0; k < k_end_; ++k) {
      if (k == label) continue;
      const double noise = std::max(static_cast<double>(counts[k]) - less, 0.0);
      prune[k] = static_cast<std::int64_t>(noise * options_.frac_noise);
      left += noise - noise * options_.frac_noise;
    }
    prune[label] = static_cast<std::int64_t>(static_cast<double>(keep) + left);
    return prune;
  }

  // Marks the `count` of lowest score.
  void MarkLowestOf(Scored& scored, std::int64_t count) {
    count = std::min(count, static_cast<std::int64_t>(scored.size()));
    if (count <= 0) return;
    std::nth_element(scored.begin(), scored.begin() + (count - 1), scored.end());
    for (std::int64_t j = 0; j < count; ++j) out_.issue[scored[j].second] = 1;
  }

  void MarkByNoiseRate(int label, absl::Span<const std::int64_t> items) {
    const std::vector<std::int64_t> prune = PruneCounts(label);
    Scored scored(items.size());
    for (int k = 0; k < k_end_; ++k) {
      if (k == label || prune[k] <= 0) continue;
      for (std::size_t j = 0; j < items.size(); ++j) {
        const Row p = row(items[j]);
        scored[j] = {p[label] - p[k], items[j]};
      }
      MarkLowestOf(scored, prune[k]);
    }
  }

  void MarkByClass(int label, absl::Span<const std::int64_t> items) {
    Scored scored(items.size());
    for (std::size_t j = 0; j < items.size(); ++j) scored[j] = {row(items[j])[label], items[j]};
    MarkLowestOf(scored, static_cast<std::int64_t>(items.size()) - PruneCounts(label)[label]);
  }

  // Calls mark for every class with the items so labelled, in their order.
  void Prune(void (IssueFinder::*mark)(int, absl::Span<const std::int64_t>)) {
    std::vector<std::int64_t> begin(k_end_ + 1), items(label_.size());
    for (const std::int32_t label : label_) ++begin[label + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<std::int64_t> next(begin.begin(), begin.end() - 1);
    for (std::size_t i = 0; i < label_.size(); ++i) {
      items[next[label_[i]]++] = static_cast<std::int64_t>(i);
    }
    executor_.ParallelFor(k_end_, [&](std::int64_t label) {
      const std::int64_t count = begin[label + 1] - begin[label];
      if (count <= options_.min_items_per_class) return;
      (this->*mark)(static_cast<int>(label),
                    absl::MakeConstSpan(items).subspan(begin[label], count));
    });
  }

  void MarkOffDiagonal() {
    for (std::size_t i = 0; i < label_.size(); ++i) {
      out_.issue[i] = sure_[i] >= 0 && sure_[i] != label_[i] ? 1 : 0;
    }
  }

  void MarkLowest() {
    std::int64_t count = 0;
    Scored scored(label_.size());
    for (std::size_t i = 0; i < label_.size(); ++i) {
      const Row p = row(static_cast<std::int64_t>(i));
      const std::int32_t label = label_[i];
      const bool near = p[label] + kTieSlack >= p[likeliest_[i]];
      if (sure_[i] >= 0 && sure_[i] != label && !near) ++count;
      scored[i] = {options_.filter == IssueFilter::kLowSelfConfidence ? p[label]
                                                                      : NormalizedMargin(label, p),
                   static_cast<std::int64_t>(i)};
    }
    MarkLowestOf(scored, count);
  }

  const int k_end_;
  const absl::Span<const std::int32_t> label_;
  const absl::Span<const double> p_;
  const IssueOptions options_;
  Executor& executor_;
  std::vector<std::int32_t> sure_, likeliest_;  // [n]
  LabelIssues out_;
};

}  // namespace

absl::StatusOr<LabelIssues> FindLabelIssues(int num_classes, absl::Span<const std::int32_t> label,
                                            absl::Span<const double> probabilities,
                                            const IssueOptions& options, Executor& executor) {
  if (auto s = Validate(num_classes, label, probabilities, options); !s.ok()) return s;
  return IssueFinder(num_classes, label, probabilities, options, executor).Find();
}

}  // namespace softloss::annotation
