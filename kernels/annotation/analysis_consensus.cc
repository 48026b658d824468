#include "kernels/annotation/analysis_consensus.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/majority.h"
#include "kernels/annotation/wawa.h"

namespace softloss::annotation {
namespace {

bool AnyItemWithTwoVotes(const Votes& votes) {
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    if (votes.item_begin(i + 1) - votes.item_begin(i) >= 2) return true;
  }
  return false;
}

ConsensusMethod Choose(const Votes& votes, const Distributions* predictions, bool confusion_fits) {
  if (predictions != nullptr) return ConsensusMethod::kCrowdlab;
  return confusion_fits && AnyItemWithTwoVotes(votes) ? ConsensusMethod::kDawidSkene
                                                      : ConsensusMethod::kMajority;
}

}  // namespace

absl::StatusOr<ConsensusFit> FitConsensus(const Votes& votes, const Distributions* predictions,
                                          const Distributions* gold, ConsensusMethod method,
                                          Executor& executor) {
  const double k = votes.num_classes();
  const double cells = votes.num_annotators() * k * k;
  const bool confusion_fits = cells <= kMaxConfusionCells;
  ConsensusFit fit;
  fit.method =
      method == ConsensusMethod::kAuto ? Choose(votes, predictions, confusion_fits) : method;
  const bool fits_em =
      fit.method == ConsensusMethod::kDawidSkene || fit.method == ConsensusMethod::kOneCoin;
  if (fits_em && !confusion_fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("method: dawid_skene and one_coin take K² numbers an annotator, here ", cells,
                     " in all; at most ", kMaxConfusionCells, ": take majority or wawa"));
  }
  Consensus majority = MajorityVote(votes, {}, executor);
  fit.majority = std::move(majority.posterior);
  fit.majority_skill = std::move(majority.skill);
  if (confusion_fits) {
    absl::StatusOr<OneCoin> one_coin = FitOneCoin(votes, gold, {}, executor);
    if (!one_coin.ok()) return one_coin.status();
    fit.one_coin = *std::move(one_coin);
    // One vote more in each cell: without it few votes make matrices of 0 and 1, posteriors of 0 and
    // 1, and a worklist that cannot tell sure items apart.
    const DawidSkeneOptions smoothed{.smoothing = 1};
    absl::StatusOr<DawidSkene> fitted = FitDawidSkene(votes, gold, {}, smoothed, executor);
    if (!fitted.ok()) return fitted.status();
    fit.dawid_skene = *std::move(fitted);
  }
  if (predictions != nullptr || fit.method == ConsensusMethod::kCrowdlab) {
    absl::StatusOr<Crowdlab> fitted = FitCrowdlab(votes, predictions, executor);
    if (!fitted.ok()) return fitted.status();
    fit.crowdlab = *std::move(fitted);
  }
  switch (fit.method) {
    case ConsensusMethod::kAuto:
    case ConsensusMethod::kMajority: fit.posterior = fit.majority; break;
    case ConsensusMethod::kWawa: fit.posterior = Wawa(votes, executor).posterior; break;
    case ConsensusMethod::kOneCoin: fit.posterior = fit.one_coin->consensus.posterior; break;
    case ConsensusMethod::kDawidSkene: fit.posterior = fit.dawid_skene->consensus.posterior; break;
    case ConsensusMethod::kCrowdlab: fit.posterior = fit.crowdlab->consensus.posterior; break;
  }
  const int classes = votes.num_classes();
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    if (!Present(gold, i)) continue;
    std::copy_n(gold->probability.begin() + i * classes, classes,
                fit.posterior.begin() + i * classes);
  }
  return fit;
}

}  // namespace softloss::annotation
