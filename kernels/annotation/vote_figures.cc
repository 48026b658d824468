#include "kernels/annotation/vote_figures.h"

#include <algorithm>
#include <limits>

#include "absl/types/span.h"
#include "kernels/annotation/agreement.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/row_scores.h"

namespace softloss::annotation {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// q·q' of each vote of an item, q' the classes that most weight of the others is on.
void OthersMajority(const Votes& votes, std::int64_t item, std::vector<double>& sum,
                    absl::Span<double> out) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  const int classes = votes.num_classes();
  sum.assign(classes, 0);
  for (std::int64_t v = begin; v < end; ++v) {
    for (int k = 0; k < classes; ++k) sum[k] += votes.weight(v) * votes.probability(v, k);
  }
  for (std::int64_t v = begin; v < end; ++v) {
    const auto rest = [&](int k) { return sum[k] - votes.weight(v) * votes.probability(v, k); };
    double most = rest(0);
    for (int k = 1; k < classes; ++k) most = std::max(most, rest(k));
    double agreement = 0;
    int equals = 0;
    for (int k = 0; k < classes; ++k) {
      if (rest(k) != most) continue;
      ++equals;
      agreement += votes.probability(v, k);
    }
    out[v - begin] = end - begin < 2 ? kNaN : agreement / equals;
  }
}

}  // namespace

VoteFigures FiguresOfVotes(const Votes& votes, const Distributions* predictions,
                           const Distributions* gold, Executor& executor) {
  const int classes = votes.num_classes();
  const std::vector<double> undefined(votes.size(), kNaN);
  VoteFigures out{undefined, undefined, undefined, undefined};
  const auto row = [&](const Distributions* of, std::int64_t item) {
    return absl::MakeConstSpan(of->probability).subspan(item * classes, classes);
  };
  const ItemBlocks blocks(votes, kItemBlocks);
  executor.ParallelFor(blocks.size(), [&](std::int64_t b) {
    std::vector<double> sum;
    for (std::int64_t i = blocks.begin(static_cast<int>(b)); i < blocks.end(static_cast<int>(b));
         ++i) {
      const std::int64_t begin = votes.item_begin(i), end = votes.item_begin(i + 1);
      if (begin == end) continue;
      OthersMajority(votes, i, sum, absl::MakeSpan(out.others).subspan(begin, end - begin));
      VoteAgreements(votes, i, absl::MakeSpan(out.peers).subspan(begin, end - begin));
      const int answer = Present(predictions, i) ? ArgMax(row(predictions, i)) : -1;
      for (std::int64_t v = begin; v < end; ++v) {
        if (answer >= 0) out.model[v] = votes.probability(v, answer);
        if (!Present(gold, i)) continue;
        double agreement = 0;
        for (int k = 0; k < classes; ++k) agreement += votes.probability(v, k) * row(gold, i)[k];
        out.gold[v] = agreement;
      }
    }
  });
  return out;
}

}  // namespace softloss::annotation
