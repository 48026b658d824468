#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/annotation/analysis_parts.h"

namespace softloss::annotation {
namespace {

// Fewer would make a window's interval so wide that it says nothing.
constexpr std::int64_t kLeastWindowVotes = 20;

}  // namespace

std::vector<DriftWindow> AnalyzeDrift(const AnalysisInput& in) {
  std::vector<DriftWindow> out;
  if (!in.votes.has_time()) return out;
  for (int r = 0; r < in.votes.num_annotators(); ++r) {
    std::vector<std::uint32_t> own;
    for (const std::uint32_t v : in.by_annotator.of(r)) {
      if (!std::isnan(in.vote.others[v])) own.push_back(v);
    }
    std::stable_sort(own.begin(), own.end(), [&](std::uint32_t a, std::uint32_t b) {
      return in.votes.time(a) < in.votes.time(b);
    });
    const auto n = static_cast<std::int64_t>(own.size());
    const std::int64_t windows =
        std::min<std::int64_t>(n / kLeastWindowVotes, in.options.drift_windows);
    // One window, or one moment, is no course of time.
    if (windows < 2 || in.votes.time(own.front()) == in.votes.time(own.back())) continue;
    for (std::int64_t w = 0; w < windows; ++w) {
      const std::int64_t begin = n * w / windows, end = n * (w + 1) / windows;
      WeightedMean mean;
      for (std::int64_t i = begin; i < end; ++i) {
        mean.Add(in.vote.others[own[i]], in.votes.weight(own[i]));
      }
      out.push_back({r, in.votes.time(own[begin]), in.votes.time(own[end - 1]), ShareFigure(mean)});
    }
  }
  return out;
}

}  // namespace softloss::annotation
