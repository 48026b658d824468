#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/annotation/analysis_parts.h"

namespace softloss::annotation {
namespace {

// Why the item is where it is: the first of these that holds.
WorklistReason ReasonFor(const Analysis& out, std::int64_t i) {
  const ItemColumns& item = out.item;
  const bool contested = item.consensus[i] != item.majority[i];
  if (item.issue[i] != 0 && contested) return WorklistReason::kLabelIssue;
  // What of the votes' entropy is between voters, and what is within each.
  if (item.js[i] > 0 && item.js[i] >= item.mean_entropy[i]) return WorklistReason::kDisagreement;
  if (item.entropy[i] > 0) return WorklistReason::kAmbiguous;
  if (!std::isnan(item.model_cross_entropy[i]) && item.self_confidence[i] < 0.5) {
    return WorklistReason::kModelDisagrees;
  }
  return WorklistReason::kUnreliable;
}

}  // namespace

void MakeWorklist(const AnalysisInput& in, Analysis& out) {
  const ItemColumns& item = out.item;
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < in.votes.num_items(); ++i) {
    if (item.majority[i] >= 0 && !(in.gold != nullptr && in.gold->present[i] != 0)) {
      order.push_back(i);
    }
  }
  // The least sure label first; of equals the one where another vote is worth more, then by name.
  const auto urgency = [&](std::int64_t a, std::int64_t b) {
    if (item.label_quality[a] != item.label_quality[b]) {
      return item.label_quality[a] < item.label_quality[b];
    }
    if (item.active_lab[a] != item.active_lab[b] && !std::isnan(item.active_lab[a]) &&
        !std::isnan(item.active_lab[b])) {
      return item.active_lab[a] < item.active_lab[b];
    }
    return a < b;
  };
  const std::size_t kept =
      std::min(order.size(), static_cast<std::size_t>(in.options.worklist_items));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    urgency);
  order.resize(kept);
  for (const std::int64_t i : order) out.reason.push_back(ReasonFor(out, i));
  out.worklist = std::move(order);
}

}  // namespace softloss::annotation
