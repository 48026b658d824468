// Figures of single votes, which the figures of annotators are means of.
#pragma once

#include <vector>

#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// [votes] each, in [0, 1]; NaN where undefined.
struct VoteFigures {
  // q·q', q' the majority of the others' votes on the item by weight, shared out among equals; NaN
  // for an only vote.
  std::vector<double> others;
  std::vector<double> peers;  // VoteAgreements
  std::vector<double> gold;   // q·gold; NaN without
  std::vector<double> model;  // q[argmax P]; NaN without
};

VoteFigures FiguresOfVotes(const Votes& votes, const Distributions* predictions,
                           const Distributions* gold, Executor& executor);

}  // namespace softloss::annotation
