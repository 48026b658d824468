#include "kernels/annotation/temperature.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/annotation/item_blocks.h"
#include "kernels/annotation/majority.h"

namespace softloss::annotation {
namespace {

constexpr double kLeastProbability = 1e-30;
constexpr double kCoarse[] = {0.1, 0.2, 0.5, 0.8, 1, 2, 3, 5, 8};
constexpr int kFine = 4;  // steps between two of them

// to[k] = from[k]^(1/T), normalised.
void Scale(const double* from, int classes, double temperature, double* to) {
  const double highest = *std::max_element(from, from + classes);
  double sum = 0;
  for (int k = 0; k < classes; ++k) sum += to[k] = std::pow(from[k] / highest, 1 / temperature);
  for (int k = 0; k < classes; ++k) to[k] /= sum;
}

double CrossEntropy(const Votes& votes, const std::vector<double>& mean,
                    const Distributions& predictions, double temperature, Executor& executor) {
  const int classes = votes.num_classes();
  // Σ entropy, items; then room to scale a row in.
  const std::vector<double> sums =
      SumOverItems(votes, executor, 2 + classes, [&](std::int64_t i, double* cells) {
        if (!predictions.present[i] || votes.item_begin(i) == votes.item_begin(i + 1)) return;
        double* const scaled = cells + 2;
        Scale(predictions.probability.data() + i * classes, classes, temperature, scaled);
        double entropy = 0;
        for (int k = 0; k < classes; ++k) {
          entropy -= mean[i * classes + k] * std::log(std::max(scaled[k], kLeastProbability));
        }
        cells[0] += entropy;
        cells[1] += 1;
      });
  return sums[0] / (sums[1] * std::log(classes));  // 0 / 0 is NaN: no such item
}

}  // namespace

Distributions ScaleByTemperature(const Distributions& predictions, int num_classes,
                                 double temperature) {
  Distributions out = predictions;
  for (std::size_t i = 0; i < out.present.size(); ++i) {
    if (!out.present[i]) continue;
    double* const row = out.probability.data() + i * num_classes;
    Scale(row, num_classes, temperature, row);
  }
  return out;
}

double CrossEntropyOfMeanVotes(const Votes& votes, const Distributions& predictions,
                               Executor& executor) {
  return CrossEntropy(votes, MajorityVote(votes, {}, executor).posterior, predictions, 1, executor);
}

double BestTemperature(const Votes& votes, const Distributions& predictions, Executor& executor) {
  const std::vector<double> mean = MajorityVote(votes, {}, executor).posterior;
  double best = 1, least = std::numeric_limits<double>::infinity();
  const auto consider = [&](double temperature) {
    const double entropy = CrossEntropy(votes, mean, predictions, temperature, executor);
    if (!(entropy < least)) return;
    least = entropy;
    best = temperature;
  };
  for (const double t : kCoarse) consider(t);
  const double* const at = std::find(std::begin(kCoarse), std::end(kCoarse), best);
  for (int step = 1; step < kFine; ++step) {
    if (at != std::begin(kCoarse)) consider(*at + (at[-1] - *at) * step / kFine);
    if (at + 1 != std::end(kCoarse)) consider(*at + (at[1] - *at) * step / kFine);
  }
  return best;
}

}  // namespace softloss::annotation
