#include "kernels/annotation/wawa.h"

#include <utility>

#include "kernels/annotation/majority.h"

namespace softloss::annotation {

Consensus Wawa(const Votes& votes, Executor& executor) {
  Consensus majority = MajorityVote(votes, {}, executor);
  Consensus out = MajorityVote(votes, majority.skill, executor);
  out.skill = std::move(majority.skill);
  return out;
}

}  // namespace softloss::annotation
