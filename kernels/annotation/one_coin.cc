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

// s_r and π by the sums; as a confusion matrix, of two different values.
class Maximizer {
 public:
  Maximizer(const Votes& votes, bool logs)
      : classes_(votes.num_classes()), skill(votes.num_annotators()) {
    model.prior.assign(classes_, 1.0 / classes_);
    model.vote.resize(skill.size() * classes_ * classes_);
    if (logs) model.log_vote.resize(model.vote.size());
  }

  double Maximize(const VoteSums& sums) {
    const double items = std::accumulate(sums.prior.begin(), sums.prior.end(), 0.0);
    for (int k = 0; k < classes_; ++k) {
      if (items > 0) model.prior[k] = sums.prior[k] / items;
    }
    const std::size_t matrix = std::size_t{1} * classes_ * classes_;
    for (std::size_t r = 0; r < skill.size(); ++r) {
      const double* const mass = sums.vote.data() + r * matrix;
      double own = 0, all = 0;
      for (std::size_t c = 0; c < matrix; ++c) all += mass[c];
      for (int k = 0; k < classes_; ++k) own += mass[k * (classes_ + 1)];
      skill[r] = all > 0 ? own / all : std::numeric_limits<double>::quiet_NaN();
      const double s = std::clamp(all > 0 ? skill[r] : 0.5, kLeastSkill, 1 - kLeastSkill);
      const double right = s, wrong = (1 - s) / (classes_ - 1);
      for (std::size_t c = 0; c < matrix; ++c) {
        const double e = c % (classes_ + 1) == 0 ? right : wrong;
        model.vote[r * matrix + c] = e;
        if (!model.log_vote.empty()) model.log_vote[r * matrix + c] = std::log(e);
      }
    }
    return 0;
  }

 private:
  const int classes_;

 public:
  std::vector<double> skill;
  VoteModel model;
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
  Maximizer maximizer(votes, em.NeedsLogs());
  maximizer.Maximize(sums);
  EmTrace trace =
      IterateEm(em, maximizer.model, 0, out.consensus.posterior, sums, options.tolerance,
                options.max_iterations, [&] { return maximizer.Maximize(sums); });
  out.consensus.skill = std::move(maximizer.skill);
  out.prior = std::move(maximizer.model.prior);
  out.log_likelihood = std::move(trace.log_likelihood);
  out.converged = trace.converged;
  return out;
}

}  // namespace softloss::annotation
