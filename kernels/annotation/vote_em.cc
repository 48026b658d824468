#include "kernels/annotation/vote_em.h"

#include <algorithm>
#include <cmath>

#include "kernels/annotation/distributions.h"

namespace softloss::annotation {
namespace {

// What is less likely than this, beside the likeliest, is impossible: also what is so by kLeastLog.
constexpr double kImpossibleLog = -650;

// Σ ln x_i, by one logarithm of many factors x ≥ 1.
class LogProduct {
 public:
  void Multiply(double x) {
    product_ *= x;
    if (product_ > 1e200) {
      log_ += std::log(product_);
      product_ = 1;
    }
  }
  double Log() const { return log_ + std::log(product_); }

 private:
  double product_ = 1, log_ = 0;
};

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

template <int kStates, bool kGiven>
void VoteEm::RunBlock(int block, const LogModel* model, double* posterior) {
  const int states = kStates > 0 ? kStates : states_;
  const int classes = votes_.num_classes();
  VoteSums& sums = partial_[block];
  sums.prior.assign(states, 0.0);
  sums.vote.assign(cells_, 0.0);
  double* const cells = sums.vote.data();
  const double* const log_cells = kGiven ? nullptr : model->vote.data();
  std::vector<double> large(kStates > 0 ? 0 : states);
  double small[kStates > 0 ? kStates : 1];
  double* const score = kStates > 0 ? small : large.data();
  double highest_sum = 0;
  LogProduct rest;

  // Calls use(first cell of the vote's class, weight) for every class that a vote names.
  const auto for_classes = [&](std::int64_t v, auto use) {
    const std::int64_t first = std::int64_t{votes_.annotator(v)} * classes;
    if (!votes_.soft()) {
      use((first + votes_.label(v)) * states, votes_.weight(v));
      return;
    }
    const auto q = votes_.probabilities(v);
    for (int k = 0; k < classes; ++k) {
      if (q[k] > 0) use((first + k) * states, votes_.weight(v) * q[k]);
    }
  };

  for (std::int64_t i = blocks_.begin(block); i < blocks_.end(block); ++i) {
    const std::int64_t begin = votes_.item_begin(i), end = votes_.item_begin(i + 1);
    double* const p = posterior + i * states;
    const bool gold = Present(gold_, i);
    if constexpr (!kGiven) {
      for (int s = 0; s < states; ++s) score[s] = model->prior[s];
      for (std::int64_t v = begin; v < end; ++v) {
        for_classes(v, [&](std::int64_t cell, double weight) {
          for (int s = 0; s < states; ++s) score[s] += weight * log_cells[cell + s];
        });
      }
      if (!gold) {
        const double highest = *std::max_element(score, score + states);
        double sum = 0;
        for (int s = 0; s < states; ++s) {
          const double below = score[s] - highest;
          sum += p[s] = below > kImpossibleLog ? std::exp(below) : 0;
        }
        for (int s = 0; s < states; ++s) p[s] /= sum;
        if (begin == end) continue;  // the prior itself: says nothing
        highest_sum += highest;
        rest.Multiply(sum);
      }
    }
    if (gold) {
      const double* const g = gold_->probability.data() + i * states;
      double sum = 0;
      for (int s = 0; s < states; ++s) sum += g[s];
      for (int s = 0; s < states; ++s) {
        p[s] = g[s] / sum;
        if (!kGiven && p[s] > 0) highest_sum += p[s] * score[s];
      }
    } else if (begin == end) {
      continue;
    }
    for (int s = 0; s < states; ++s) sums.prior[s] += p[s];
    for (std::int64_t v = begin; v < end; ++v) {
      for_classes(v, [&](std::int64_t cell, double weight) {
        for (int s = 0; s < states; ++s) cells[cell + s] += weight * p[s];
      });
    }
  }
  sums.log_likelihood = highest_sum + rest.Log();
}

template <bool kGiven>
void VoteEm::Run(const LogModel* model, std::vector<double>& posterior, VoteSums& sums) {
  executor_.ParallelFor(blocks_.size(), [&](std::int64_t b) {
    const int block = static_cast<int>(b);
    switch (states_) {
      case 2: return RunBlock<2, kGiven>(block, model, posterior.data());
      case 3: return RunBlock<3, kGiven>(block, model, posterior.data());
      case 4: return RunBlock<4, kGiven>(block, model, posterior.data());
      default: return RunBlock<0, kGiven>(block, model, posterior.data());
    }
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

void VoteEm::Step(const LogModel& model, std::vector<double>& posterior, VoteSums& sums) {
  Run<false>(&model, posterior, sums);
}

void VoteEm::Sum(std::vector<double>& posterior, VoteSums& sums) {
  Run<true>(nullptr, posterior, sums);
}

EmTrace IterateEm(VoteEm& em, const LogModel& model, double log_density,
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
