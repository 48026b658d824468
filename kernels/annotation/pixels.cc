#include "kernels/annotation/pixels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/annotation/pixels_simd.h"

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kBlock = 1 << 16;  // pixels a task

std::int64_t Blocks(const ReaderMasks& masks) { return (masks.pixels() + kBlock - 1) / kBlock; }

ReaderMasks Block(const ReaderMasks& masks, std::int64_t block) {
  const std::int64_t pixels = std::min(kBlock, masks.pixels() - block * kBlock);
  ReaderMasks out = masks;
  out.value = masks.value.subspan(block * kBlock * masks.readers, pixels * masks.readers);
  return out;
}

// [readers, pixels] of [pixels, readers].
std::vector<std::uint8_t> ByReader(const ReaderMasks& masks) {
  const std::int64_t pixels = masks.pixels();
  std::vector<std::uint8_t> out(masks.value.size());
  for (int r = 0; r < masks.readers; ++r) {
    for (std::int64_t i = 0; i < pixels; ++i)
      out[r * pixels + i] = masks.value[i * masks.readers + r];
  }
  return out;
}

// −p log₂ p − (1 − p) log₂ (1 − p)
double BinaryEntropy(double p) {
  const auto term = [](double x) { return x > 0 ? -x * std::log2(x) : 0.0; };
  return term(p) + term(1 - p);
}

}  // namespace

absl::Status Validate(const ReaderMasks& masks) {
  if (masks.readers < 1 || masks.readers > ReaderMasks::kMaxReaders) {
    return absl::InvalidArgumentError(absl::StrCat(
        "readers: must be from 1 to ", ReaderMasks::kMaxReaders, "; was ", masks.readers));
  }
  if (masks.scale < 1 || masks.scale > 255) {
    return absl::InvalidArgumentError(
        absl::StrCat("scale: must be from 1 to 255; was ", masks.scale));
  }
  if (masks.value.size() % masks.readers != 0) {
    return absl::InvalidArgumentError(absl::StrCat("value: must have ", masks.readers,
                                                   " values a pixel; has ", masks.value.size()));
  }
  if (masks.scale < 255) {
    const auto above = std::find_if(masks.value.begin(), masks.value.end(),
                                    [&masks](std::uint8_t v) { return v > masks.scale; });
    if (above != masks.value.end()) {
      const std::int64_t at = above - masks.value.begin();
      return absl::InvalidArgumentError(absl::StrCat("value[", at / masks.readers, ", ",
                                                     at % masks.readers, "]: must be at most ",
                                                     masks.scale, ", the scale; was ", *above));
    }
  }
  return absl::OkStatus();
}

double PixelSums::Alpha(int readers) const {
  __extension__ typedef __int128 Int128;
  const Int128 n = static_cast<Int128>(pixels) * readers;
  // Without rounding: n Do = 2·observed/(m − 1), n (n − 1) De = 2·expected.
  const Int128 observed = static_cast<Int128>(readers) * squares - pixel_squares;
  const Int128 expected = n * squares - static_cast<Int128>(sum) * sum;
  if (readers < 2 || expected <= 0) return kUndefined;
  return 1 - static_cast<double>(observed) / (readers - 1) * static_cast<double>(n - 1) /
                 static_cast<double>(expected);
}

PixelSums SumPixels(const ReaderMasks& masks, Executor& executor) {
  std::vector<MaskSums> blocks(Blocks(masks));
  executor.ParallelFor(Blocks(masks), [&](std::int64_t b) {
    const ReaderMasks block = Block(masks, b);
    blocks[b] = SumMasks(block.value.data(), block.pixels(), masks.readers);
  });
  PixelSums out;
  out.pixels = masks.pixels();
  for (const MaskSums& block : blocks) {
    out.sum += static_cast<std::int64_t>(block.sum);
    out.squares += static_cast<std::int64_t>(block.squares);
    out.pixel_squares += static_cast<std::int64_t>(block.pixel_squares);
  }
  return out;
}

ReaderOverlap& ReaderOverlap::operator+=(const ReaderOverlap& other) {
  for (std::size_t r = 0; r < sum.size(); ++r) sum[r] += other.sum[r];
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] += other.difference[i];
  return *this;
}

double ReaderOverlap::Dice(int r, int s) const {
  const auto both = static_cast<double>(sum[r] + sum[s]);
  return (both - static_cast<double>(difference[r * static_cast<std::size_t>(readers) + s])) / both;
}

double ReaderOverlap::Iou(int r, int s) const {
  const auto both = static_cast<double>(sum[r] + sum[s]);
  const auto apart = static_cast<double>(difference[r * static_cast<std::size_t>(readers) + s]);
  return (both - apart) / (both + apart);
}

ReaderOverlap SumOverlaps(const ReaderMasks& masks, Executor& executor) {
  const int readers = masks.readers;
  std::vector<ReaderOverlap> blocks(Blocks(masks), ReaderOverlap(readers));
  executor.ParallelFor(Blocks(masks), [&](std::int64_t b) {
    const ReaderMasks block = Block(masks, b);
    const std::int64_t pixels = block.pixels();
    const std::vector<std::uint8_t> plane = ByReader(block);
    const std::vector<std::uint8_t> none(pixels);
    for (int r = 0; r < readers; ++r) {
      const std::uint8_t* mine = &plane[r * pixels];
      blocks[b].sum[r] = static_cast<std::int64_t>(SumDifferences(mine, none.data(), pixels));
      for (int s = 0; s < r; ++s) {
        blocks[b].difference[r * static_cast<std::size_t>(readers) + s] =
            blocks[b].difference[s * static_cast<std::size_t>(readers) + r] =
                static_cast<std::int64_t>(SumDifferences(mine, &plane[s * pixels], pixels));
      }
    }
  });
  ReaderOverlap out(readers);
  for (const ReaderOverlap& block : blocks) out += block;
  return out;
}

std::int64_t MajorityMask(const ReaderMasks& masks, absl::Span<std::uint8_t> out,
                          Executor& executor) {
  std::vector<std::int64_t> counts(Blocks(masks));
  executor.ParallelFor(Blocks(masks), [&](std::int64_t b) {
    const ReaderMasks block = Block(masks, b);
    for (std::int64_t i = 0; i < block.pixels(); ++i) {
      const std::uint8_t* values = &block.value[i * masks.readers];
      int sum = 0;
      for (int r = 0; r < masks.readers; ++r) sum += values[r];
      const bool yes = 2 * sum >= masks.scale * masks.readers;
      out[b * kBlock + i] = yes ? 1 : 0;
      counts[b] += yes ? 1 : 0;
    }
  });
  std::int64_t count = 0;
  for (const std::int64_t block : counts) count += block;
  return count;
}

void DisagreementMap(const ReaderMasks& masks, absl::Span<float> out, Executor& executor) {
  // A table of each entropy that can be: of a reader's value, and of a pixel's sum.
  const double scale = masks.scale, total = scale * masks.readers;
  std::vector<double> of_value, of_sum;
  for (int v = 0; v <= masks.scale; ++v) of_value.push_back(BinaryEntropy(v / scale));
  for (int v = 0; v <= masks.scale * masks.readers; ++v) of_sum.push_back(BinaryEntropy(v / total));
  executor.ParallelFor(Blocks(masks), [&](std::int64_t b) {
    const ReaderMasks block = Block(masks, b);
    for (std::int64_t i = 0; i < block.pixels(); ++i) {
      const std::uint8_t* values = &block.value[i * masks.readers];
      int sum = 0;
      double own = 0;
      for (int r = 0; r < masks.readers; ++r) {
        sum += values[r];
        own += of_value[values[r]];
      }
      out[b * kBlock + i] = static_cast<float>(std::max(of_sum[sum] - own / masks.readers, 0.0));
    }
  });
}

}  // namespace softloss::annotation
