#include "kernels/annotation/alerts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/annotation/exact_sum.h"
#include "kernels/annotation/intervals.h"

namespace softloss::annotation {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void FindBelowThreshold(const Analysis& a, const AnalysisOptions& options, std::vector<bool> enough,
                        std::vector<Alert>& out) {
  for (std::size_t r = 0; r < enough.size(); ++r) {
    const Figure& gold = a.annotator.agreement_gold[r];
    const Figure& figure = gold.n >= options.min_votes ? gold : a.annotator.agreement_consensus[r];
    if (enough[r] && figure.high < options.min_agreement) {
      out.push_back({AlertKind::kBelowThreshold, static_cast<std::int64_t>(r), figure,
                     options.min_agreement});
    }
  }
}

void FindDrift(const Analysis& a, const std::vector<bool>& enough, std::vector<Alert>& out) {
  for (std::size_t first = 0; first < a.drift.size();) {
    std::size_t last = first;
    const std::int64_t annotator = a.drift[first].annotator;
    double sum = 0, n = 0;
    while (last + 1 < a.drift.size() && a.drift[last + 1].annotator == annotator) {
      sum += a.drift[last].agreement.value * a.drift[last].agreement.n;
      n += a.drift[last].agreement.n;
      ++last;
    }
    if (n > 0 && enough[annotator]) {
      const Interval before = WilsonInterval(sum / n, n);
      if (a.drift[last].agreement.high < before.low) {
        out.push_back({AlertKind::kDrift, annotator, a.drift[last].agreement, before.low});
      }
    }
    first = last + 1;
  }
}

void FindCollapse(const Analysis& a, absl::Span<const double> consensus_share,
                  const AnalysisOptions& options, const std::vector<bool>& enough,
                  std::vector<Alert>& out) {
  for (std::size_t r = 0; r < enough.size(); ++r) {
    if (!enough[r]) continue;
    const auto share =
        absl::MakeConstSpan(a.annotator.class_share).subspan(r * a.num_classes, a.num_classes);
    const auto top = std::max_element(share.begin(), share.end());
    const double expected = consensus_share[r * a.num_classes + (top - share.begin())];
    if (*top > options.collapse_share && *top > expected + options.collapse_excess) {
      out.push_back({AlertKind::kClassCollapse,
                     static_cast<std::int64_t>(r),
                     {*top, kNaN, kNaN, static_cast<double>(a.annotator.votes[r])},
                     std::max(options.collapse_share, expected + options.collapse_excess)});
    }
  }
}

}  // namespace

std::vector<double> SpammerScores(absl::Span<const double> confusion, int annotators, int classes) {
  std::vector<double> out(annotators, kNaN);
  if (confusion.empty()) return out;
  const double pairs = 0.5 * classes * (classes - 1);
  for (int r = 0; r < annotators; ++r) {
    const double* const rows =
        confusion.data() + static_cast<std::ptrdiff_t>(r) * classes * classes;
    double sum = 0;
    for (int s = 0; s < classes; ++s) {
      for (int t = 0; t < s; ++t) {
        double variation = 0;
        for (int k = 0; k < classes; ++k) {
          variation += std::abs(rows[s * classes + k] - rows[t * classes + k]);
        }
        sum += variation / 2;
      }
    }
    out[r] = sum / pairs;
  }
  return out;
}

std::vector<Alert> FindAlerts(const Analysis& a, absl::Span<const double> consensus_share,
                              const AnalysisOptions& options) {
  std::vector<bool> enough;
  for (const std::int64_t n : a.annotator.votes) {
    enough.push_back(n > 0 && static_cast<double>(n) >= options.min_votes);
  }
  std::vector<Alert> out;
  FindBelowThreshold(a, options, enough, out);
  FindDrift(a, enough, out);
  for (std::size_t r = 0; r < enough.size(); ++r) {
    const double score = a.annotator.spammer[r];
    if (enough[r] && score < options.spammer_score) {
      out.push_back({AlertKind::kSpammer,
                     static_cast<std::int64_t>(r),
                     {score, kNaN, kNaN, static_cast<double>(a.annotator.votes[r])},
                     options.spammer_score});
    }
  }
  FindCollapse(a, consensus_share, options, enough, out);
  return out;
}

}  // namespace softloss::annotation
