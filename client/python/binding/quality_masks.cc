#include "client/python/binding/quality_masks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <nanobind/stl/vector.h>

#include "absl/strings/str_cat.h"
#include "client/python/binding/quality_votes.h"
#include "kernels/annotation/mask_agreement.h"
#include "kernels/annotation/mask_issues.h"
#include "kernels/annotation/pixels.h"
#include "kernels/annotation/segmentation.h"
#include "kernels/annotation/segmentation_em.h"

namespace softloss::python {
namespace {

using annotation::Column;
using annotation::MaskAgreement;
using annotation::ReaderMasks;
using Bytes = std::vector<std::uint8_t>;
using ColumnsOr = absl::StatusOr<std::vector<Column>>;
using Plane = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Probabilities = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// Where both masks are empty they are alike.
double OrWhole(double overlap) { return std::isnan(overlap) ? 1 : overlap; }

// Masks as they are drawn, [readers, pixels], as pixels see them, [pixels, readers].
Bytes ByPixel(const Plane& masks) {
  const std::size_t readers = masks.shape(0), pixels = masks.shape(1);
  Bytes out(masks.size());
  constexpr std::size_t kBlock = 1 << 12;  // pixels: what is written stays in the cache
  for (std::size_t begin = 0; begin < pixels; begin += kBlock) {
    const std::size_t end = std::min(pixels, begin + kBlock);
    for (std::size_t r = 0; r < readers; ++r) {
      for (std::size_t i = begin; i < end; ++i) out[i * readers + r] = masks.data()[r * pixels + i];
    }
  }
  return out;
}

ReaderMasks MasksOf(const Bytes& by_pixel, const Plane& masks, int scale) {
  return {by_pixel, static_cast<int>(masks.shape(0)), scale};
}

// Of each image its figures, those of its readers and of their pairs behind each other.
nb::dict CompareMasks(const std::vector<Plane>& images, int scale, int threads) {
  return Columns(threads, [&](Executor& executor) -> ColumnsOr {
    const auto count = static_cast<std::int64_t>(images.size());
    std::vector<absl::StatusOr<MaskAgreement>> found(images.size(), absl::UnknownError(""));
    executor.ParallelFor(count, [&](std::int64_t i) {
      InlineExecutor here;
      found[i] = annotation::CompareReaders(MasksOf(ByPixel(images[i]), images[i], scale), here);
    });
    annotation::ImagesAlpha alpha;
    std::vector<double> image_alpha, area, dice, iou, pair_dice, pair_iou;
    std::vector<std::int64_t> touched, contested;
    for (std::int64_t i = 0; i < count; ++i) {
      if (!found[i].ok()) {
        return absl::Status(found[i].status().code(),
                            absl::StrCat("masks[", i, "].", found[i].status().message()));
      }
      const MaskAgreement& image = *found[i];
      const int readers = image.overlap.readers;
      alpha.Add(image.sums, readers);
      image_alpha.push_back(image.sums.Alpha(readers));
      touched.push_back(image.touched);
      contested.push_back(image.contested);
      for (int r = 0; r < readers; ++r) {
        area.push_back(static_cast<double>(image.overlap.sum[r]) /
                       (static_cast<double>(image.sums.pixels) * scale));
        dice.push_back(OrWhole(image.DiceWithOthers(r)));
        iou.push_back(OrWhole(image.IouWithOthers(r)));
        for (int s = 0; s < readers; ++s) {
          pair_dice.push_back(OrWhole(image.overlap.Dice(r, s)));
          pair_iou.push_back(OrWhole(image.overlap.Iou(r, s)));
        }
      }
    }
    const auto readers = static_cast<std::int64_t>(area.size());
    const auto pairs = static_cast<std::int64_t>(pair_dice.size());
    return std::vector<Column>{Doubles("alpha", {}, {alpha.value()}),
                               Doubles("image.alpha", {count}, std::move(image_alpha)),
                               Integers("image.touched", {count}, touched),
                               Integers("image.contested", {count}, contested),
                               Doubles("reader.area", {readers}, std::move(area)),
                               Doubles("reader.dice", {readers}, std::move(dice)),
                               Doubles("reader.iou", {readers}, std::move(iou)),
                               Doubles("pair.dice", {pairs}, std::move(pair_dice)),
                               Doubles("pair.iou", {pairs}, std::move(pair_iou))};
  });
}

// The readers' mean and majority, [pixels] each.
nb::dict MaskConsensus(const Plane& masks, int scale) {
  const Bytes by_pixel = ByPixel(masks);
  const ReaderMasks input = MasksOf(by_pixel, masks, scale);
  absl::StatusOr<std::vector<float>> mean = annotation::MeanMask(input);
  if (!mean.ok()) Raise(mean.status());
  Bytes majority(mean->size());
  InlineExecutor here;
  annotation::MajorityMask(input, absl::MakeSpan(majority), here);
  const auto pixels = static_cast<std::int64_t>(mean->size());
  nb::dict out;
  out["mean"] = ToArray(*std::move(mean), {pixels});
  out["majority"] = ToArray(std::move(majority), {pixels});
  return out;
}

nb::object DisagreementMap(const Plane& masks, int scale) {
  const Bytes by_pixel = ByPixel(masks);
  const ReaderMasks input = MasksOf(by_pixel, masks, scale);
  if (auto s = annotation::Validate(input); !s.ok()) Raise(s);
  std::vector<float> out(masks.shape(1));
  InlineExecutor here;
  annotation::DisagreementMap(input, absl::MakeSpan(out), here);
  return ToArray(std::move(out), {static_cast<std::int64_t>(masks.shape(1))});
}

nb::dict MaskIssues(const Vector<std::int64_t>& begin, const Pixels& label, const Floats& mean,
                    const Floats& model, double temperature, int threads) {
  Bytes issue;
  nb::dict out = Columns(threads, [&](Executor& executor) -> ColumnsOr {
    absl::StatusOr<annotation::MaskIssues> found = annotation::FindMaskIssues(
        {SpanOf(begin), SpanOf(label), SpanOf(mean), SpanOf(model)}, temperature, executor);
    if (!found.ok()) return found.status();
    issue = std::move(found->issue);
    const auto images = static_cast<std::int64_t>(found->overlap.size());
    std::vector<double> dice, iou;
    for (const annotation::Overlap& overlap : found->overlap) {
      dice.push_back(OrWhole(overlap.dice()));
      iou.push_back(OrWhole(overlap.iou()));
    }
    return std::vector<Column>{Doubles("score", {images}, std::move(found->image_score)),
                               Integers("issues", {images}, found->image_issues),
                               Doubles("dice", {images}, std::move(dice)),
                               Doubles("iou", {images}, std::move(iou))};
  });
  const auto pixels = static_cast<std::int64_t>(issue.size());
  out["issue"] = ToArray(std::move(issue), {pixels});
  return out;
}

double PixelAlpha(const Plane& masks, int threads) {
  // α is that of any scale: 255 takes all values.
  const ReaderMasks input{SpanOf(masks), static_cast<int>(masks.shape(1)), 255};
  if (auto s = annotation::Validate(input); !s.ok()) Raise(s);
  nb::gil_scoped_release release;
  ThreadExecutor executor(Threads(threads));
  return annotation::SumPixels(input, executor).Alpha(input.readers);
}

nb::dict SegmentationEm(const Plane& masks, int max_iterations, double tolerance) {
  const auto readers = static_cast<int>(masks.shape(1));
  Bytes mask;
  nb::dict out = Columns(1, [&](Executor&) -> ColumnsOr {
    absl::StatusOr<annotation::SegmentationEm> fit =
        annotation::FitSegmentationEm({.value = SpanOf(masks), .readers = readers},
                                      {.max_iterations = max_iterations, .tolerance = tolerance});
    if (!fit.ok()) return fit.status();
    mask = std::move(fit->mask);
    return std::vector<Column>{Doubles("posterior", {static_cast<std::int64_t>(mask.size())},
                                       {fit->posterior.begin(), fit->posterior.end()}),
                               Doubles("accuracy", {readers}, std::move(fit->accuracy)),
                               Integers("iterations", {}, std::vector<int>{fit->iterations})};
  });
  out["mask"] = ToArray(std::move(mask), {static_cast<std::int64_t>(masks.shape(0))});
  return out;
}

nb::dict SegmentationIssues(const Plane& label, const Probabilities& probabilities,
                            double temperature, int threads) {
  const auto images = static_cast<std::int64_t>(label.shape(0));
  const auto pixels = static_cast<std::int64_t>(label.shape(1));
  const annotation::Segmentation<float, std::uint8_t> input{
      static_cast<int>(probabilities.shape(1)), images, pixels, SpanOf(probabilities),
      SpanOf(label)};
  Bytes issue(label.size());
  nb::dict out = Columns(threads, [&](Executor& executor) -> ColumnsOr {
    const auto scores = annotation::ScoreSegmentation<float, std::uint8_t>(
        input, temperature, {}, absl::MakeSpan(issue), executor);
    if (!scores.ok()) return scores.status();
    return std::vector<Column>{Doubles("image_score", {images}, scores->image_score),
                               Integers("image_issues", {images}, scores->image_issues)};
  });
  out["issue"] = ToArray(std::move(issue), {images, pixels});
  return out;
}

}  // namespace

void BindQualityMasks(nb::module_& m) {
  using nb::arg;
  const annotation::SegmentationEmOptions em;
  m.def("quality_compare_masks", &CompareMasks, arg("images"), nb::kw_only(), arg("scale"),
        arg("threads") = 0);
  m.def("quality_mask_consensus", &MaskConsensus, arg("masks"), nb::kw_only(), arg("scale"));
  m.def("quality_disagreement_map", &DisagreementMap, arg("masks"), nb::kw_only(), arg("scale"));
  m.def("quality_mask_issues", &MaskIssues, nb::kw_only(), arg("begin"), arg("label"), arg("mean"),
        arg("model"), arg("temperature") = annotation::kSoftMinTemperature, arg("threads") = 0);
  m.def("quality_pixel_alpha", &PixelAlpha, arg("masks"), nb::kw_only(), arg("threads") = 0);
  m.def("quality_segmentation_em", &SegmentationEm, arg("masks"), nb::kw_only(),
        arg("max_iterations") = em.max_iterations, arg("tolerance") = em.tolerance);
  m.def("quality_segmentation_issues", &SegmentationIssues, arg("label"), arg("probabilities"),
        nb::kw_only(), arg("temperature") = annotation::kSoftMinTemperature, arg("threads") = 0);
}

}  // namespace softloss::python
