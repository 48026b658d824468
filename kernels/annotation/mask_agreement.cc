#include "kernels/annotation/mask_agreement.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kBlock = 1 << 16;  // pixels a task

// Adds the figures that take all of a pixel's values at once.
void AddPixels(const std::uint8_t* value, std::int64_t pixels, MaskAgreement& out) {
  const int readers = out.overlap.readers;
  for (std::int64_t i = 0; i < pixels; ++i, value += readers) {
    int sum = 0;
    std::uint8_t low = 255, high = 0;
    for (int r = 0; r < readers; ++r) {
      sum += value[r];
      low = std::min(low, value[r]);
      high = std::max(high, value[r]);
    }
    if (high == 0) continue;
    ++out.touched;
    out.contested += low != high;
    // (R − 1)·p − (sum − p)
    for (int r = 0; r < readers; ++r) out.from_others[r] += std::abs(readers * value[r] - sum);
  }
}

}  // namespace

double MaskAgreement::DiceWithOthers(int r) const {
  if (overlap.readers < 2) return kUndefined;
  const auto both =
      static_cast<double>((overlap.readers - 1) * overlap.sum[r] + sums.sum - overlap.sum[r]);
  return (both - static_cast<double>(from_others[r])) / both;
}

double MaskAgreement::IouWithOthers(int r) const {
  if (overlap.readers < 2) return kUndefined;
  const auto both =
      static_cast<double>((overlap.readers - 1) * overlap.sum[r] + sums.sum - overlap.sum[r]);
  const auto apart = static_cast<double>(from_others[r]);
  return (both - apart) / (both + apart);
}

MaskAgreement& MaskAgreement::operator+=(const MaskAgreement& other) {
  sums += other.sums;
  overlap += other.overlap;
  for (std::size_t r = 0; r < from_others.size(); ++r) from_others[r] += other.from_others[r];
  touched += other.touched;
  contested += other.contested;
  return *this;
}

absl::StatusOr<MaskAgreement> CompareReaders(const ReaderMasks& masks, Executor& executor) {
  if (auto s = Validate(masks); !s.ok()) return s;
  const std::int64_t pixels = masks.pixels(), tasks = (pixels + kBlock - 1) / kBlock;
  std::vector<MaskAgreement> parts(tasks, MaskAgreement(masks.readers));
  executor.ParallelFor(tasks, [&](std::int64_t b) {
    AddPixels(masks.value.data() + b * kBlock * masks.readers,
              std::min(kBlock, pixels - b * kBlock), parts[b]);
  });
  MaskAgreement out(masks.readers);
  for (const MaskAgreement& part : parts) out += part;
  out.sums = SumPixels(masks, executor);
  out.overlap = SumOverlaps(masks, executor);
  return out;
}

void ImagesAlpha::Add(const PixelSums& sums, int readers) {
  if (readers < 2) return;
  values_ += static_cast<double>(sums.pixels) * readers;
  sum_ += static_cast<double>(sums.sum);
  squares_ += static_cast<double>(sums.squares);
  // Σ over ordered pairs of the squared difference, by 1/(m − 1).
  observed_ += 2 * static_cast<double>(readers * sums.squares - sums.pixel_squares) / (readers - 1);
}

double ImagesAlpha::value() const {
  const double expected = 2 * (values_ * squares_ - sum_ * sum_);
  if (values_ < 2 || expected <= 0) return kUndefined;
  return 1 - observed_ * (values_ - 1) / expected;
}

}  // namespace softloss::annotation
