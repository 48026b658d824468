// The majority vote that CROWDLAB begins with, with its way to break ties.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// [items] Of the classes with most votes: the one that is likelier by the prediction; then the one
// with fewer votes on all items (so that rare classes stay); then the one whose voters agree more
// with the items that have no tie; then the lowest. An item without votes has its likeliest class by
// the prediction, or class 0.
std::vector<std::int32_t> TieBrokenMajority(const Votes& votes, const Distributions* predictions,
                                            Executor& executor);

}  // namespace softloss::annotation
