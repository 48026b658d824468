#include "kernels/annotation/crowdlab_majority.h"

#include <algorithm>
#include <limits>

#include "absl/functional/function_ref.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/majority.h"

namespace softloss::annotation {
namespace {

// Leaves those classes for which value(class) is highest.
void Keep(std::vector<std::int32_t>& classes, absl::FunctionRef<double(std::int32_t)> value) {
  double highest = -std::numeric_limits<double>::infinity();
  for (const std::int32_t k : classes) highest = std::max(highest, value(k));
  std::erase_if(classes, [&](std::int32_t k) { return value(k) < highest; });
}

// Mean q[label] of each annotator's votes on items without a tie; their mean for the others.
std::vector<double> AgreementOffTies(const Votes& votes, const std::vector<std::int32_t>& label,
                                     const std::vector<std::uint8_t>& tie, Executor& executor) {
  const std::vector<double> sums =
      SumOverItems(votes, executor, 2 * std::int64_t{votes.num_annotators()},
                   [&](std::int64_t i, double* cells) {
                     if (tie[i]) return;
                     for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
                       double* const own = cells + 2 * std::int64_t{votes.annotator(v)};
                       own[0] += votes.weight(v) * votes.probability(v, label[i]);
                       own[1] += votes.weight(v);
                     }
                   });
  std::vector<double> agreement(votes.num_annotators());
  double total = 0;
  int known = 0;
  for (std::size_t r = 0; r < agreement.size(); ++r) {
    if (!(sums[2 * r + 1] > 0)) continue;
    total += agreement[r] = sums[2 * r] / sums[2 * r + 1];
    ++known;
  }
  for (std::size_t r = 0; r < agreement.size(); ++r) {
    if (!(sums[2 * r + 1] > 0)) agreement[r] = known > 0 ? total / known : 0;
  }
  return agreement;
}

}  // namespace

std::vector<std::int32_t> TieBrokenMajority(const Votes& votes, const Distributions* predictions,
                                            Executor& executor) {
  const int classes = votes.num_classes();
  const std::vector<double> mean = MajorityVote(votes, {}, executor).posterior;
  std::vector<std::int32_t> label(votes.num_items());
  std::vector<std::uint8_t> tie(votes.num_items());
  ForEachItem(votes, executor, [&](std::int64_t i) {
    const double* const row = mean.data() + i * classes;
    const double highest = *std::max_element(row, row + classes);
    label[i] = static_cast<std::int32_t>(std::find(row, row + classes, highest) - row);
    tie[i] = std::count(row, row + classes, highest) > 1;
  });
  if (std::count(tie.begin(), tie.end(), 0) == votes.num_items()) return label;

  const std::vector<double> frequency =
      SumOverItems(votes, executor, classes, [&](std::int64_t i, double* cells) {
        for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
          for (int k = 0; k < classes; ++k) cells[k] += votes.weight(v) * votes.probability(v, k);
        }
      });
  const std::vector<double> agreement = AgreementOffTies(votes, label, tie, executor);
  ForEachItem(votes, executor, [&](std::int64_t i) {
    if (!tie[i]) return;
    const double* const row = mean.data() + i * classes;
    std::vector<std::int32_t> left;
    for (std::int32_t k = 0; k < classes; ++k) {
      if (row[k] == row[label[i]]) left.push_back(k);
    }
    if (Present(predictions, i)) {
      const double* const given = predictions->probability.data() + i * classes;
      Keep(left, [&](std::int32_t k) { return given[k]; });
    }
    const std::int64_t begin = votes.item_begin(i), end = votes.item_begin(i + 1);
    if (left.size() > 1 && begin < end) {
      Keep(left, [&](std::int32_t k) { return -frequency[k]; });
      Keep(left, [&](std::int32_t k) {
        double agreeing = 0, all = 0;
        for (std::int64_t v = begin; v < end; ++v) {
          const double weight = votes.weight(v) * votes.probability(v, k);
          agreeing += weight * agreement[votes.annotator(v)];
          all += weight;
        }
        return agreeing / all;
      });
    }
    label[i] = left.front();
  });
  return label;
}

}  // namespace softloss::annotation
