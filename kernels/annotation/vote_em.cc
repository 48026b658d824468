#include "kernels/annotation/vote_em.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/annotation/distributions.h"

namespace softloss::annotation {
namespace {

// What is less likely than this, beside the likeliest, is impossible: also what is so by kLeastLog.
constexpr double kImpossibleLog = -650;

// Products of probabilities that add up to less may have lost digits to underflow.
constexpr double kLeastProduct = 1e-200;

// Σ ln x_i, by one logarithm of many factors.
class LogProduct {
 public:
  void Multiply(double x) {
    const double next = product_ * x;
    if (next > kLeastProduct && next < 1 / kLeastProduct) {
      product_ = next;
    } else {
      log_ += std::log(product_) + std::log(x);
      product_ = 1;
    }
  }
  double Log() const { return log_ + std::log(product_); }

 private:
  double product_ = 1, log_ = 0;
};

// The items of a block. kStates is the number of states where that is known to the compiler, or 0.
template <int kStates>
class BlockPass {
 public:
  BlockPass(const Votes& votes, const Distributions* gold, const VoteModel* model, int states,
            double* posterior, VoteSums& sums)
      : votes_(votes),
        gold_(gold),
        model_(model),
        states_(kStates > 0 ? kStates : states),
        classes_(votes.num_classes()),
        powers_(votes.soft() || votes.weighted()),
        posterior_(posterior),
        sums_(sums),
        score_(states_) {}

  void Run(std::int64_t begin, std::int64_t end) {
    double* const prior = sums_.prior.data();
    for (std::int64_t i = begin; i < end; ++i) {
      double* const p = posterior_ + i * states();
      if (Present(gold_, i)) {
        TakeGold(i, p);
      } else if (votes_.item_begin(i) == votes_.item_begin(i + 1)) {
        if (model_ != nullptr) std::copy_n(model_->prior.data(), states(), p);
        continue;  // says nothing of the model
      } else if (model_ != nullptr && (!Certain(i) || !FromProducts(i, p))) {
        FromLogs(i, p);
      }
      for (int s = 0; s < states(); ++s) prior[s] += p[s];
      AddVotes(i, p);
    }
    sums_.log_likelihood = log_likelihood_ + likelihood_.Log();
  }

 private:
  int states() const { return kStates > 0 ? kStates : states_; }

  // Calls use(s) for every state; without a loop where their number is known, so that arrays of them
  // are registers.
  template <typename Use>
  void ForStates(Use use) const {
    if constexpr (kStates > 0) {
      [&]<int... s>(std::integer_sequence<int, s...>) { (use(s), ...); }
      (std::make_integer_sequence<int, kStates>());
    } else {
      for (int s = 0; s < states_; ++s) use(s);
    }
  }

  std::int64_t Cell(std::int64_t v, int k) const {
    return (std::int64_t{votes_.annotator(v)} * classes_ + k) * states();
  }

  // Calls use(cells of a class, weight) for every class that the vote names.
  template <typename Use>
  void ForClasses(std::int64_t v, Use use) const {
    if (!votes_.soft()) {
      use(Cell(v, votes_.label(v)), votes_.weight(v));
      return;
    }
    const auto q = votes_.probabilities(v);
    for (int k = 0; k < classes_; ++k) {
      if (q[k] > 0) use(Cell(v, k), votes_.weight(v) * q[k]);
    }
  }

  // Whether all votes on the item are one class each, at weight 1.
  bool Certain(std::int64_t i) const {
    if (!powers_) return true;
    for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
      if (votes_.weight(v) != 1 || votes_.probability(v, votes_.label(v)) != 1) return false;
    }
    return true;
  }

  // Sets p by products of probabilities; false where they are too small.
  bool FromProducts(std::int64_t i, double* p) {
    double product[kStates > 0 ? kStates : 1];
    double* const x = kStates > 0 ? product : score_.data();
    const double* const e = model_->vote.data();
    ForStates([&](int s) { x[s] = model_->prior[s]; });
    for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
      const double* const row = e + Cell(v, votes_.label(v));
      ForStates([&](int s) { x[s] *= row[s]; });
    }
    double sum = 0;
    ForStates([&](int s) { sum += x[s]; });
    if (!(sum > kLeastProduct)) return false;
    ForStates([&](int s) { p[s] = x[s] / sum; });
    likelihood_.Multiply(sum);
    return true;
  }

  double LogVote(std::int64_t cell) const {
    return model_->log_vote.empty() ? SafeLog(model_->vote[cell]) : model_->log_vote[cell];
  }

  // Sets score_ to ln π_s + Σ w Σ q ln e.
  void Score(std::int64_t i) {
    for (int s = 0; s < states(); ++s) score_[s] = SafeLog(model_->prior[s]);
    for (std::int64_t v = votes_.item_begin(i); v < votes_.item_begin(i + 1); ++v) {
      ForClasses(v, [&](std::int64_t cell, double weight) {
        for (int s = 0; s < states(); ++s) score_[s] += weight * LogVote(cell + s);
      });
    }
  }

  void FromLogs(std::int64_t i, double* p) {
    Score(i);
    const double highest = *std::max_element(score_.begin(), score_.end());
    double sum = 0;
    for (int s = 0; s < states(); ++s) {
      const double below = score_[s] - highest;
      sum += p[s] = below > kImpossibleLog ? std::exp(below) : 0;
    }
    for (int s = 0; s < states(); ++s) p[s] /= sum;
    log_likelihood_ += highest;
    likelihood_.Multiply(sum);
  }

  void TakeGold(std::int64_t i, double* p) {
    const double* const g = gold_->probability.data() + i * states();
    double sum = 0;
    for (int s = 0; s < states(); ++s) sum += g[s];
    for (int s = 0; s < states(); ++s) p[s] = g[s] / sum;
    if (model_ == nullptr) return;
    Score(i);
    for (int s = 0; s < states(); ++s) {
      if (p[s] > 0) log_likelihood_ += p[s] * score_[s];
    }
  }

  void AddVotes(std::int64_t i, const double* p) {
    double* const cells = sums_.vote.data();
    const std::int64_t begin = votes_.item_begin(i), end = votes_.item_begin(i + 1);
    if (!powers_) {
      double copy[kStates > 0 ? kStates : 1];  // registers, which stores to cells leave alone
      if (kStates > 0) ForStates([&](int s) { copy[s] = p[s]; });
      const double* const own = kStates > 0 ? copy : p;
      for (std::int64_t v = begin; v < end; ++v) {
        double* const row = cells + Cell(v, votes_.label(v));
        ForStates([&](int s) { row[s] += own[s]; });
      }
      return;
    }
    for (std::int64_t v = begin; v < end; ++v) {
      ForClasses(v, [&](std::int64_t cell, double weight) {
        for (int s = 0; s < states(); ++s) cells[cell + s] += weight * p[s];
      });
    }
  }

  const Votes& votes_;
  const Distributions* const gold_;
  const VoteModel* const model_;  // null: the posterior is given
  const int states_, classes_;
  const bool powers_;  // of some probability: by a weight or a soft vote
  double* const posterior_;
  VoteSums& sums_;
  std::vector<double> score_;
  double log_likelihood_ = 0;
  LogProduct likelihood_;
};

template <int kStates>
void RunBlock(const Votes& votes, const Distributions* gold, const VoteModel* model, int states,
              double* posterior, VoteSums& sums, std::int64_t begin, std::int64_t end) {
  BlockPass<kStates>(votes, gold, model, states, posterior, sums).Run(begin, end);
}

}  // namespace

double SafeLog(double probability) {
  return probability > 0 ? std::max(std::log(probability), kLeastLog) : kLeastLog;
}

VoteEm::VoteEm(const Votes& votes, const Distributions* gold, int num_states, Executor& executor)
    : votes_(votes),
      gold_(gold),
      states_(num_states),
      cells_(std::int64_t{votes.num_annotators()} * votes.num_classes() * num_states),
      executor_(executor),
      blocks_(votes, BlocksForSums(votes, cells_)),
      partial_(blocks_.size()) {}

void VoteEm::Run(const VoteModel* model, std::vector<double>& posterior, VoteSums& sums) {
  const auto run = states_ == 2   ? RunBlock<2>
                   : states_ == 3 ? RunBlock<3>
                   : states_ == 4 ? RunBlock<4>
                                  : RunBlock<0>;
  executor_.ParallelFor(blocks_.size(), [&](std::int64_t b) {
    partial_[b].prior.assign(states_, 0.0);
    partial_[b].vote.assign(cells_, 0.0);
    const int block = static_cast<int>(b);
    run(votes_, gold_, model, states_, posterior.data(), partial_[b], blocks_.begin(block),
        blocks_.end(block));
  });
  sums.prior.assign(states_, 0.0);
  sums.vote.resize(cells_);
  sums.log_likelihood = 0;
  for (const VoteSums& partial : partial_) {
    for (int s = 0; s < states_; ++s) sums.prior[s] += partial.prior[s];
    sums.log_likelihood += partial.log_likelihood;
  }
  const std::int64_t width = std::int64_t{votes_.num_classes()} * states_;
  executor_.ParallelFor(votes_.num_annotators(), [&](std::int64_t r) {
    for (std::int64_t c = r * width; c < (r + 1) * width; ++c) {
      double sum = 0;
      for (const VoteSums& partial : partial_) sum += partial.vote[c];
      sums.vote[c] = sum;
    }
  });
}

void VoteEm::Step(const VoteModel& model, std::vector<double>& posterior, VoteSums& sums) {
  Run(&model, posterior, sums);
}

void VoteEm::Sum(std::vector<double>& posterior, VoteSums& sums) { Run(nullptr, posterior, sums); }

EmTrace IterateEm(VoteEm& em, const VoteModel& model, double log_density,
                  std::vector<double>& posterior, VoteSums& sums, double tolerance,
                  int max_iterations, absl::FunctionRef<double()> maximize) {
  EmTrace trace;
  for (int t = 0; t < max_iterations && !trace.converged; ++t) {
    em.Step(model, posterior, sums);
    const double reached = sums.log_likelihood + log_density;
    trace.converged = t > 0 && tolerance > 0 &&
                      reached - trace.log_likelihood.back() <= tolerance * std::abs(reached);
    trace.log_likelihood.push_back(reached);
    log_density = maximize();
  }
  return trace;
}

}  // namespace softloss::annotation
