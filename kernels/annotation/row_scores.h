// Figures of one pair of rows: a soft label q over K classes, and a model's probabilities P.
//
// Rows are [K], K ≥ 2, finite, not negative, and sum to 1; lengths are equal. A hard label may be
// given by its class instead, and is then the one-hot q, at a cost that does not grow with it.
// Logarithms are natural; 0·ln 0 is 0. Pure functions.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace softloss::annotation {

using Row = absl::Span<const double>;

// Σ q_k P_k.
double SelfConfidence(Row q, Row p);
double SelfConfidence(std::int32_t label, Row p);

// Σ q_k (P_k − max over j≠k of P_j + 1)/2, in [0, 1].
double NormalizedMargin(Row q, Row p);
double NormalizedMargin(std::int32_t label, Row p);

// With h = (H(P)/ln K) / max(Σ q_k P_k, 1e-6): ln(1 + h)/max(h, 1e-6), in [0, 1]. As everywhere in
// this file a low score is a doubtful label, but note the floor: as h → 0, of a model that is wholly
// certain, the score is 0 too.
double ConfidenceWeightedEntropy(Row q, Row p);
double ConfidenceWeightedEntropy(std::int32_t label, Row p);

// The first two scores take P after this, to make classes of different confidence comparable:
// (P − t + max t), divided by its sum. t are confident thresholds (confident_learning.h). Any of the
// spans may be the same memory.
void AdjustProbabilities(Row p, Row thresholds, absl::Span<double> adjusted);

// −Σ p ln p, in nats.
double Entropy(Row p);

// 1 − H(P)/ln K, in [0, 1]: low where the model knows nothing, as of what it was not trained for. Taken
// of adjusted probabilities where thresholds are known.
double InDistribution(Row p);

// Logarithms of a model's probabilities below this are taken at it, so that a label which the model
// calls impossible costs 36.04 nats, and not infinity. (The machine epsilon, as others choose.)
inline constexpr double kProbabilityFloor = 0x1p-52;

double CrossEntropy(Row q, Row p);  // −Σ q_k ln max(P_k, floor)
double CrossEntropy(std::int32_t label, Row p);
double KlDivergence(Row q, Row p);    // Σ q_k (ln q_k − ln max(P_k, floor)) = CE − H(q)
double JensenShannon(Row q, Row p);   // H((q + P)/2) − (H(q) + H(P))/2, in [0, ln 2]
double Brier(Row q, Row p);           // Σ (q_k − P_k)², in [0, 2]
double TotalVariation(Row q, Row p);  // ½ Σ |q_k − P_k|, in [0, 1]

// Where an item has any number of the K classes, q_k and P_k are of each class by itself, and do not sum
// to 1: the self-confidence of each, q_k P_k + (1 − q_k)(1 − P_k), from the largest to the lowest,
// averaged exponentially, e ← α·s + (1 − α)·e from the largest on. Near the lowest.
double MultiLabelScore(Row q, Row p, double alpha = 0.8);

// The class of the largest, the lowest of equals.
std::int32_t ArgMax(Row p);

}  // namespace softloss::annotation
