#include "kernels/annotation/dawid_skene.h"

#include <algorithm>
#include <cmath>
#include <iterator>
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

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

absl::Status CheckModel(const DawidSkeneModel& model, const Votes& votes) {
  if (model.num_classes != votes.num_classes()) {
    return absl::InvalidArgumentError(absl::StrCat("model.num_classes: must be that of the votes, ",
                                                   votes.num_classes(), "; was ",
                                                   model.num_classes));
  }
  if (model.num_states < 2 || model.prior.size() != static_cast<std::size_t>(model.num_states)) {
    return absl::InvalidArgumentError(absl::StrCat("model.prior: must have a value a state (",
                                                   model.num_states, ", at least 2); has ",
                                                   model.prior.size()));
  }
  const std::size_t matrix = model.prior.size() * model.num_classes;
  if (model.confusion.size() % matrix != 0 ||
      model.confusion.size() / matrix > static_cast<std::size_t>(votes.num_annotators())) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.confusion: must be [annotators, ", model.num_states, ", ",
                     model.num_classes, "] of at most the votes' ", votes.num_annotators(),
                     " annotators; has ", model.confusion.size(), " values"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const DawidSkeneOptions& options) {
  for (const auto& [name, value] :
       {std::pair{"tolerance", options.tolerance}, std::pair{"smoothing", options.smoothing},
        std::pair{"prior_smoothing", options.prior_smoothing}}) {
    if (!(value >= 0) || std::isinf(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": must be finite and not negative; was ", value));
    }
  }
  if (options.max_iterations < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_iterations: must not be negative; was ", options.max_iterations));
  }
  return absl::OkStatus();
}

bool Knows(const DawidSkeneModel& model, int annotator) {
  const std::size_t first = std::size_t{1} * annotator * model.num_states * model.num_classes;
  return first < model.confusion.size() && !std::isnan(model.confusion[first]);
}

// Probabilities of 1 for annotators that the model does not know: they say nothing.
VoteModel ToVoteModel(const DawidSkeneModel& model, int num_annotators, bool logs) {
  const int states = model.num_states, classes = model.num_classes;
  VoteModel out = {.prior = model.prior};
  out.vote.assign(std::size_t{1} * num_annotators * classes * states, 1.0);
  for (int r = 0; r < num_annotators; ++r) {
    if (!Knows(model, r)) continue;
    const std::size_t first = std::size_t{1} * r * classes * states;
    for (int s = 0; s < states; ++s) {
      for (int k = 0; k < classes; ++k) {
        out.vote[first + k * states + s] = model.confusion[first + s * classes + k];
      }
    }
  }
  for (std::size_t c = 0; logs && c < out.vote.size(); ++c) {
    out.log_vote.push_back(SafeLog(out.vote[c]));
  }
  return out;
}

// The M step.
class Maximizer {
 public:
  Maximizer(const Votes& votes, int states, const DawidSkeneOptions& options, bool logs,
            Executor& executor)
      : states_(states),
        classes_(votes.num_classes()),
        annotators_(votes.num_annotators()),
        options_(options),
        executor_(executor),
        density_(annotators_) {
    model_.prior.resize(states_);
    model_.vote.resize(std::size_t{1} * annotators_ * classes_ * states_);
    if (logs) model_.log_vote.resize(model_.vote.size());
  }

  // Sets the model; returns the log-density of the Dirichlet priors there, but for constants.
  double Maximize(const VoteSums& sums) {
    executor_.ParallelFor(annotators_, [&](std::int64_t r) {
      const std::int64_t first = r * classes_ * states_, end = first + classes_ * states_;
      SetConfusion(sums.vote.data() + first, model_.vote.data() + first);
      density_[r] = 0;
      for (std::int64_t c = first; c < end; ++c) {
        if (!model_.log_vote.empty()) model_.log_vote[c] = SafeLog(model_.vote[c]);
        if (options_.smoothing > 0) density_[r] += SafeLog(model_.vote[c]);
      }
    });
    double density = options_.smoothing * std::accumulate(density_.begin(), density_.end(), 0.0);
    const double total = std::accumulate(sums.prior.begin(), sums.prior.end(), 0.0) +
                         states_ * options_.prior_smoothing;
    for (int s = 0; s < states_; ++s) {
      model_.prior[s] =
          total > 0 ? (sums.prior[s] + options_.prior_smoothing) / total : 1.0 / states_;
      density += options_.prior_smoothing * SafeLog(model_.prior[s]);
    }
    return density;
  }

  // What Maximize set by these sums.
  DawidSkeneModel Model(const VoteSums& sums) const {
    DawidSkeneModel out = {.num_states = states_, .num_classes = classes_, .prior = model_.prior};
    out.confusion.resize(model_.vote.size());
    const std::int64_t matrix = std::int64_t{classes_} * states_;
    for (std::int64_t first = 0; first < std::ssize(model_.vote); first += matrix) {
      const auto mass = sums.vote.begin() + first;
      const bool voted = std::any_of(mass, mass + matrix, [](double m) { return m > 0; });
      for (int s = 0; s < states_; ++s) {
        for (int k = 0; k < classes_; ++k) {
          out.confusion[first + s * classes_ + k] =
              voted ? model_.vote[first + k * states_ + s] : kUndefined;
        }
      }
    }
    return out;
  }

  const VoteModel& model() const { return model_; }

 private:
  // One annotator's matrix [K, S] by its sums.
  void SetConfusion(const double* mass, double* e) const {
    for (int s = 0; s < states_; ++s) {
      double total = 0;
      for (int k = 0; k < classes_; ++k) total += mass[k * states_ + s] + options_.smoothing;
      // Totals so small that quotients have lost their digits are a state never met.
      if (total < std::numeric_limits<double>::min()) {
        SetUnmet(mass, s, e);
        continue;
      }
      for (int k = 0; k < classes_; ++k) {
        e[k * states_ + s] = (mass[k * states_ + s] + options_.smoothing) / total;
      }
    }
  }
  // Uniform over the classes that the annotator ever voted.
  void SetUnmet(const double* mass, int s, double* e) const {
    int voted = 0;
    for (int k = 0; k < classes_; ++k) voted += Voted(mass, k);
    for (int k = 0; k < classes_; ++k) e[k * states_ + s] = Voted(mass, k) ? 1.0 / voted : 0;
  }
  bool Voted(const double* mass, int k) const {
    const double* const row = mass + k * states_;
    return std::any_of(row, row + states_, [](double m) { return m > 0; });
  }

  const int states_, classes_, annotators_;
  const DawidSkeneOptions options_;
  Executor& executor_;
  VoteModel model_;
  std::vector<double> density_;  // [annotators]
};

std::vector<double> Skill(const VoteSums& sums, int annotators, int classes, int states) {
  std::vector<double> skill(annotators, kUndefined);
  if (states != classes) return skill;
  const std::int64_t matrix = std::int64_t{classes} * classes;
  for (int r = 0; r < annotators; ++r) {
    double own = 0, all = 0;
    for (std::int64_t c = 0; c < matrix; ++c) {
      const double mass = sums.vote[r * matrix + c];
      all += mass;
      if (c % (classes + 1) == 0) own += mass;
    }
    if (all > 0) skill[r] = own / all;
  }
  return skill;
}

// The posterior of a model that may not know all annotators; items of none that it knows keep
// what `posterior` has.
void StartFromModel(const Votes& votes, const DawidSkeneModel& model, Executor& executor,
                    std::vector<double>& posterior) {
  const int states = model.num_states;
  std::vector<double> known(posterior.size());
  VoteSums unused;
  VoteEm em(votes, nullptr, states, executor);
  em.Step(ToVoteModel(model, votes.num_annotators(), em.NeedsLogs()), known, unused);
  ForEachItem(votes, executor, [&](std::int64_t i) {
    bool any = states != votes.num_classes();
    for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1) && !any; ++v) {
      any = Knows(model, votes.annotator(v));
    }
    if (any) std::copy_n(known.begin() + i * states, states, posterior.begin() + i * states);
  });
}

}  // namespace

absl::StatusOr<DawidSkene> FitDawidSkene(const Votes& votes, const Distributions* gold,
                                         const DawidSkeneStart& start,
                                         const DawidSkeneOptions& options, Executor& executor) {
  if (auto s = CheckOptions(options); !s.ok()) return s;
  const int classes = votes.num_classes();
  const auto items = static_cast<std::size_t>(votes.num_items());
  int states = classes;
  if (start.model != nullptr) {
    if (auto s = CheckModel(*start.model, votes); !s.ok()) return s;
    states = start.model->num_states;
  } else if (!start.posterior.empty() && items > 0) {
    states = static_cast<int>(start.posterior.size() / items);
    if (states < 2 || start.posterior.size() % items != 0) {
      return absl::InvalidArgumentError(absl::StrCat("start.posterior: must be [items, S] of ",
                                                     items, " items and 2 states or more; has ",
                                                     start.posterior.size(), " values"));
    }
  }
  if (auto s = CheckDistributions("gold", gold, votes.num_items(), states); !s.ok()) return s;

  DawidSkene out;
  std::vector<double>& posterior = out.consensus.posterior;
  if (!start.posterior.empty() && start.model == nullptr) {
    posterior.assign(start.posterior.begin(), start.posterior.end());
  } else if (states == classes) {
    posterior = MajorityVote(votes, {}, executor).posterior;
  } else {
    posterior.resize(items * states);
  }
  if (start.model != nullptr) StartFromModel(votes, *start.model, executor, posterior);

  VoteEm em(votes, gold, states, executor);
  VoteSums sums;
  em.Sum(posterior, sums);
  Maximizer maximizer(votes, states, options, em.NeedsLogs(), executor);
  const double density = maximizer.Maximize(sums);
  EmTrace trace = IterateEm(em, maximizer.model(), density, posterior, sums, options.tolerance,
                            options.max_iterations, [&] { return maximizer.Maximize(sums); });
  out.log_likelihood = std::move(trace.log_likelihood);
  out.converged = trace.converged;
  out.model = maximizer.Model(sums);
  out.consensus.skill = Skill(sums, votes.num_annotators(), classes, states);
  return out;
}

absl::StatusOr<std::vector<double>> DawidSkenePosterior(const Votes& votes,
                                                        const DawidSkeneModel& model,
                                                        Executor& executor) {
  if (auto s = CheckModel(model, votes); !s.ok()) return s;
  std::vector<double> posterior(votes.num_items() * model.num_states);
  VoteSums unused;
  VoteEm em(votes, nullptr, model.num_states, executor);
  em.Step(ToVoteModel(model, votes.num_annotators(), em.NeedsLogs()), posterior, unused);
  return posterior;
}

}  // namespace softloss::annotation
