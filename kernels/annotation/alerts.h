// Who should be looked at: annotators of whom a figure, with its uncertainty, is beyond a threshold.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "kernels/annotation/analysis.h"

namespace softloss::annotation {

// [annotators] How much a vote tells of the true class: the mean over pairs of true classes s < s' of
// the total variation between the rows s and s' of a confusion matrix, in [0, 1]. 1 for one who never
// errs, 0 for one whose vote does not depend on the item (the rows are equal: Raykar and Yu,
// "Eliminating spammers and ranking annotators", JMLR 13, 2012). confusion is [annotators, K, K], or
// empty; NaN without.
std::vector<double> SpammerScores(absl::Span<const double> confusion, int annotators, int classes);

// Of annotators with at least options.min_votes:
//   kBelowThreshold  the interval of the agreement with gold (without gold: with the consensus of the
//                    others) is wholly below min_agreement
//   kDrift           the last window's interval is wholly below that of all windows before it together
//   kSpammer         the spammer score is below spammer_score
//   kClassCollapse   more than collapse_share of the votes are of one class, and that exceeds the
//                    share of the class in the consensus of the same items by collapse_excess
std::vector<Alert> FindAlerts(const Analysis& analysis, absl::Span<const double> consensus_share,
                              const AnalysisOptions& options);

}  // namespace softloss::annotation
