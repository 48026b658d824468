// Predictions made as unsure as the people are: cleanlab's calibration before ActiveLab.
#pragma once

#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// P^(1/T), normalised: T > 1 flattens, T < 1 sharpens. Zeros stay; T must be positive.
Distributions ScaleByTemperature(const Distributions& predictions, int num_classes,
                                 double temperature);

// Mean over items with votes and a prediction of −Σ_k q̄_k ln max(P_k, 1e-30) / ln K, q̄ the mean of
// the item's votes. NaN if there is no such item. `predictions` must fit the votes (FitCrowdlab
// says how).
double CrossEntropyOfMeanVotes(const Votes& votes, const Distributions& predictions,
                               Executor& executor);

// The temperature at which that is least: of 0.1, 0.2, 0.5, 0.8, 1, 2, 3, 5, 8, then of quarters of
// the steps beside the best of them. 1 if no item has votes and a prediction.
double BestTemperature(const Votes& votes, const Distributions& predictions, Executor& executor);

}  // namespace softloss::annotation
