#include "kernels/annotation/one_coin.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/distributions.h"
#include "kernels/annotation/majority.h"
#include "kernels/annotation/vote_em.h"

namespace softloss::annotation {
namespace {

constexpr double kLeastSkill = 1e-10;

// s_r and π by the sums, and their logarithms: a confusion matrix of two different values.
class Maximizer {
 public:
  explicit Maximizer(const Votes& votes)
      : classes_(votes.num_classes()),
        skill(votes.num_annotators()),
        prior(classes_, 1.0 / classes_) {
    log.prior.resize(classes_);
    log.vote.resize(skill.size() * classes_ * classes_);
  }

  double Maximize(const VoteSums& sums) {
    const double items = std::accumulate(sums.prior.begin(), sums.prior.end(), 0.0);
    for (int k = 0; k < classes_; ++k) {
      if (items > 0) prior[k] = sums.prior[k] / items;
      log.prior[k] = SafeLog(prior[k]);
    }
    const std::size_t matrix = std::size_t{1} * classes_ * classes_;
    for (std::size_t r = 0; r < skill.size(); ++r) {
      const double* const mass = sums.vote.data() + r * matrix;
      double own = 0, all = 0;
      for (std::size_t c = 0; c < matrix; ++c) all += mass[c];
      for (int k = 0; k < classes_; ++k) own += mass[k * (classes_ + 1)];
      skill[r] = all > 0 ? own / all : std::numeric_limits<double>::quiet_NaN();
      if (all == 0) continue;  // no vote will look its logarithms up
      const double s = std::clamp(skill[r], kLeastSkill, 1 - kLeastSkill);
      const double right = std::log(s), wrong = std::log((1 - s) / (classes_ - 1));
      double* const row = log.vote.data() + r * matrix;
      std::fill(row, row + matrix, wrong);
      for (int k = 0; k < classes_; ++k) row[k * (classes_ + 1)] = right;
    }
    return 0;
  }

 private:
  const int classes_;

 public:
  std::vector<double> skill, prior;
  LogModel log;
};

}  // namespace

absl::StatusOr<OneCoin> FitOneCoin(const Votes& votes, const Distributions* gold,
                                   const OneCoinOptions& options, Executor& executor) {
  const int classes = votes.num_classes();
  if (auto s = CheckDistributions("gold", gold, votes.num_items(), classes); !s.ok()) return s;
  if (!(options.tolerance >= 0) || options.max_iterations < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tolerance, max_iterations: must not be negative; were ", options.tolerance,
                     ", ", options.max_iterations));
  }
  OneCoin out;
  out.consensus.posterior = MajorityVote(votes, {}, executor).posterior;
  VoteEm em(votes, gold, classes, executor);
  VoteSums sums;
  em.Sum(out.consensus.posterior, sums);
  Maximizer maximizer(votes);
  maximizer.Maximize(sums);
  EmTrace trace = IterateEm(em, maximizer.log, 0, out.consensus.posterior, sums, options.tolerance,
                            options.max_iterations, [&] { return maximizer.Maximize(sums); });
  out.consensus.skill = std::move(maximizer.skill);
  out.prior = std::move(maximizer.prior);
  out.log_likelihood = std::move(trace.log_likelihood);
  out.converged = trace.converged;
  return out;
}

}  // namespace softloss::annotation
