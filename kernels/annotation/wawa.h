// Wawa, worker agreement with aggregate: a majority vote of which each annotator has a share by how
// often it agreed with the plain majority.
#pragma once

#include "kernels/annotation/consensus.h"
#include "kernels/annotation/votes.h"
#include "kernels/executor.h"

namespace softloss::annotation {

// skill is MajorityVote's, and posterior is MajorityVote's with those skills as weights. An item
// without votes is uniform.
Consensus Wawa(const Votes& votes, Executor& executor);

}  // namespace softloss::annotation
