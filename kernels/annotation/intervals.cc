#include "kernels/annotation/intervals.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit in moves every bit out.
std::uint64_t Mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// 2^16 times the probabilities that a Poisson number of mean 1 is at most 0, 1, …, 6, rounded: 16 bits
// are a draw, and a draw of eight or more does not happen (by right, 1 in 98,000).
constexpr std::array<std::uint16_t, 7> kPoissonSteps = {24109, 48219, 60274, 64292,
                                                        65296, 65497, 65531};
constexpr std::size_t kMaxDraw = kPoissonSteps.size();

// The least draw of 16 bits that begin with each 8: what remains to be counted is little.
constexpr std::array<std::uint8_t, 256> kLeastDraw = [] {
  std::array<std::uint8_t, 256> least{};
  for (std::uint32_t high = 0; high < 256; ++high) {
    for (const std::uint16_t step : kPoissonSteps) least[high] += high << 8 >= step ? 1 : 0;
  }
  return least;
}();

std::uint8_t Draw(std::uint32_t bits16) {
  std::uint8_t draw = kLeastDraw[bits16 >> 8];
  while (draw < kMaxDraw && bits16 >= kPoissonSteps[draw]) ++draw;
  return draw;
}

}  // namespace

Interval WilsonInterval(double share, double n, double z) {
  if (!(n > 0) || std::isnan(share)) return {kUndefined, kUndefined};
  share = std::clamp(share, 0.0, 1.0);  // a quotient of sums may be 1 and a rounding
  const double z2 = z * z;
  const double center = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      z / (1 + z2 / n) * std::sqrt(std::max(share * (1 - share), 0.0) / n + z2 / (4 * n * n));
  // Rounding must not put the share outside.
  return {std::clamp(center - half, 0.0, share), std::clamp(center + half, share, 1.0)};
}

std::uint64_t ItemKey(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a, 64 bits
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return Mix(hash);
}

void PoissonDraws(std::uint64_t item, absl::Span<std::uint8_t> draws) {
  constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15u;
  std::uint64_t bits = 0;
  const std::uint64_t seed = Mix(item + kStep);
  for (std::size_t b = 0; b < draws.size(); ++b) {
    bits = b % 4 == 0 ? Mix(seed + (b / 4 + 1) * kStep) : bits >> 16;
    draws[b] = Draw(bits & 0xFFFF);
  }
}

MeanBootstrap::MeanBootstrap(int means, int replicates)
    : means_(means),
      replicates_(replicates),
      sums_((static_cast<std::size_t>(means) + 1) * replicates) {}

void MeanBootstrap::Add(std::uint64_t item, absl::Span<const double> x, double w) {
  constexpr int kBlock = 256;
  std::array<std::uint8_t, kBlock> buffer;
  std::vector<std::uint8_t> more;
  auto draws = absl::MakeSpan(buffer).subspan(0, std::min(replicates_, kBlock));
  if (replicates_ > kBlock) {
    more.resize(replicates_);
    draws = absl::MakeSpan(more);
  }
  PoissonDraws(item, draws);
  for (int m = 0; m <= means_; ++m) {
    std::array<ExactSum, kMaxDraw + 1> times;
    for (std::size_t draw = 1; draw <= kMaxDraw; ++draw) {
      times[draw] = times[draw - 1];
      times[draw] += m < means_ ? w * x[m] : w;
    }
    ExactSum* sums = &sums_[static_cast<std::size_t>(m) * replicates_];
    for (int b = 0; b < replicates_; ++b) sums[b] += times[draws[b]];
  }
}

MeanBootstrap& MeanBootstrap::operator+=(const MeanBootstrap& other) {
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
  return *this;
}

Interval MeanBootstrap::Percentiles(int mean, double coverage) const {
  std::vector<double> ratios;
  for (int b = 0; b < replicates_; ++b) {
    const double weight = sums_[static_cast<std::size_t>(means_) * replicates_ + b].value();
    if (!(weight > 0)) continue;
    ratios.push_back(sums_[static_cast<std::size_t>(mean) * replicates_ + b].value() / weight);
  }
  if (ratios.size() < 2) return {kUndefined, kUndefined};
  std::sort(ratios.begin(), ratios.end());
  const auto at = [&ratios](double quantile) {
    const double position = quantile * static_cast<double>(ratios.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, ratios.size() - 1);
    return ratios[below] +
           (position - static_cast<double>(below)) * (ratios[above] - ratios[below]);
  };
  return {at((1 - coverage) / 2), at((1 + coverage) / 2)};
}

}  // namespace softloss::annotation
