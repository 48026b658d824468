// The formulas of dawid_skene.h as they stand, with products of probabilities in long double.
#pragma once

#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/annotation/votes.h"

namespace softloss::testing {

struct PlainEm {
  std::vector<std::vector<long double>> posterior;               // [items][K]
  std::vector<std::vector<std::vector<long double>>> confusion;  // [annotators][K][K]
  std::vector<long double> prior, likelihood;

  PlainEm(const annotation::Votes& votes, const annotation::Distributions* gold, double smoothing,
          int iterations) {
    const int classes = votes.num_classes();
    posterior.assign(votes.num_items(), std::vector<long double>(classes, 1.0L / classes));
    for (std::int64_t i = 0; i < votes.num_items(); ++i) {
      long double total = 0;
      if (votes.item_begin(i) < votes.item_begin(i + 1)) posterior[i].assign(classes, 0);
      for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
        total += votes.weight(v);
        for (int k = 0; k < classes; ++k) {
          posterior[i][k] += votes.weight(v) * votes.probability(v, k);
        }
      }
      for (int k = 0; k < classes && total > 0; ++k) posterior[i][k] /= total;
    }
    Clamp(gold, classes);
    Maximize(votes, gold, smoothing);
    for (int t = 0; t < iterations; ++t) {
      long double sum_of_logs = 0;
      for (const auto& matrix : confusion) {
        for (const auto& row : matrix) {
          for (const long double e : row)
            sum_of_logs += smoothing > 0 ? smoothing * std::log(e) : 0;
        }
      }
      for (const long double p : prior) sum_of_logs += smoothing > 0 ? smoothing * std::log(p) : 0;
      for (std::int64_t i = 0; i < votes.num_items(); ++i) {
        const bool known = gold != nullptr && gold->present[i];
        long double sum = 0;
        for (int s = 0; s < classes; ++s) {
          long double product = prior[s];
          for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
            for (int k = 0; k < classes; ++k) {
              product *=
                  std::pow(confusion[votes.annotator(v)][s][k],
                           static_cast<long double>(votes.weight(v)) * votes.probability(v, k));
            }
          }
          posterior[i][s] = product;
          sum += product;
          const double g = known ? gold->probability[i * classes + s] : 0;
          if (g > 0) sum_of_logs += g * std::log(product);
        }
        for (long double& p : posterior[i]) p /= sum;
        if (!known && votes.item_begin(i) < votes.item_begin(i + 1)) sum_of_logs += std::log(sum);
      }
      likelihood.push_back(sum_of_logs);
      Clamp(gold, classes);
      Maximize(votes, gold, smoothing);
    }
  }

  void Clamp(const annotation::Distributions* gold, int classes) {
    for (std::size_t i = 0; gold != nullptr && i < posterior.size(); ++i) {
      for (int k = 0; k < classes && gold->present[i]; ++k) {
        posterior[i][k] = gold->probability[i * classes + k];
      }
    }
  }

  void Maximize(const annotation::Votes& votes, const annotation::Distributions* gold,
                double smoothing) {
    const int classes = votes.num_classes();
    const std::vector<long double> row(classes, smoothing);
    confusion.assign(votes.num_annotators(), std::vector(classes, row));
    prior = row;
    for (std::int64_t i = 0; i < votes.num_items(); ++i) {
      const bool known = gold != nullptr && gold->present[i];
      if (!known && votes.item_begin(i) == votes.item_begin(i + 1)) continue;
      for (int s = 0; s < classes; ++s) prior[s] += posterior[i][s];
      for (std::int64_t v = votes.item_begin(i); v < votes.item_begin(i + 1); ++v) {
        for (int s = 0; s < classes; ++s) {
          for (int k = 0; k < classes; ++k) {
            confusion[votes.annotator(v)][s][k] +=
                posterior[i][s] * votes.weight(v) * votes.probability(v, k);
          }
        }
      }
    }
    const auto normalize = [](std::vector<long double>& values) {
      const long double total = std::accumulate(values.begin(), values.end(), 0.0L);
      for (long double& x : values) x = total > 0 ? x / total : 1.0L / values.size();
    };
    normalize(prior);
    for (auto& matrix : confusion) {
      for (auto& distribution : matrix) normalize(distribution);
    }
  }
};

}  // namespace softloss::testing
