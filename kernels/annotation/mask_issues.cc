#include "kernels/annotation/mask_issues.h"

#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/segmentation.h"

namespace softloss::annotation {
namespace {

absl::Status Check(const ModelMasks& masks) {
  const std::size_t pixels = masks.model.size();
  if (masks.begin.empty() || masks.begin.front() != 0 ||
      masks.begin.back() != static_cast<std::int64_t>(pixels)) {
    return absl::InvalidArgumentError(
        absl::StrCat("begin: must go from 0 to ", pixels, ", the number of pixels"));
  }
  for (std::size_t i = 0; i + 1 < masks.begin.size(); ++i) {
    if (masks.begin[i + 1] > masks.begin[i]) continue;
    return absl::InvalidArgumentError(absl::StrCat("begin[", i + 1, "]: must be above ",
                                                   masks.begin[i], "; was ", masks.begin[i + 1]));
  }
  if (masks.label.size() != pixels || masks.mean.size() != pixels) {
    return absl::InvalidArgumentError(absl::StrCat("label and mean: must have ", pixels,
                                                   " pixels, as the model; have ",
                                                   masks.label.size(), " and ", masks.mean.size()));
  }
  for (std::size_t i = 0; i < pixels; ++i) {
    if (masks.model[i] >= 0 && masks.model[i] <= 1) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("model[", i, "]: must be from 0 to 1; was ", masks.model[i]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MaskIssues> FindMaskIssues(const ModelMasks& masks, double temperature,
                                          Executor& executor) {
  if (auto s = Check(masks); !s.ok()) return s;
  const std::size_t pixels = masks.model.size(), images = masks.begin.size() - 1;
  MaskIssues out;
  out.issue.resize(pixels);
  out.image_issues.resize(images);
  if (images == 0) return out;

  // As one image, so that thresholds and counts are those of all pixels; [2, pixels].
  std::vector<float> probability(2 * pixels), score(pixels);
  for (std::size_t i = 0; i < pixels; ++i) probability[i] = 1 - masks.model[i];
  std::copy(masks.model.begin(), masks.model.end(), probability.begin() + pixels);
  const Segmentation<float, std::uint8_t> all{2, 1, static_cast<std::int64_t>(pixels), probability,
                                              masks.label};
  const auto scores = ScoreSegmentation<float, std::uint8_t>(
      all, temperature, absl::MakeSpan(score), absl::MakeSpan(out.issue), executor);
  if (!scores.ok()) return scores.status();

  out.image_score.resize(images);
  out.overlap.resize(images);
  executor.ParallelFor(static_cast<std::int64_t>(images), [&](std::int64_t i) {
    const std::int64_t begin = masks.begin[i], size = masks.begin[i + 1] - begin;
    const auto issue = out.issue.begin() + begin;
    out.image_issues[i] = std::accumulate(issue, issue + size, std::int64_t{0});
    out.image_score[i] =
        SoftMin<float>(absl::MakeConstSpan(score).subspan(begin, size), temperature);
    out.overlap[i].Add(masks.mean.subspan(begin, size), masks.model.subspan(begin, size));
  });
  return out;
}

}  // namespace softloss::annotation
