#include "kernels/annotation/segmentation_em.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr int kMaxReaders = 64;            // the bits of a pattern
constexpr double kLeastPosterior = 1e-15;  // below it is 0

// Which readers marked the pixel, a bit each.
std::uint64_t Pattern(const std::uint8_t* pixel, int readers) {
  std::uint64_t pattern = 0;
  for (int r = 0; r < readers; ++r) pattern |= std::uint64_t{pixel[r]} << r;
  return pattern;
}

int Marks(std::uint64_t pattern) { return __builtin_popcountll(pattern); }

// x·ln y, where nothing times −∞ is nothing.
double TimesLog(double x, double y) { return x == 0 ? 0 : x * std::log(y); }

// The pixels that the same readers marked.
struct Case {
  std::uint64_t pattern = 0;
  double count = 0;
  double prior = 0, posterior = 0;

  bool marked_by(int reader) const { return pattern >> reader & 1; }
};

class Em {
 public:
  explicit Em(const ReaderMasks& masks) : readers_(masks.readers), pixels_(masks.pixels()) {
    absl::flat_hash_map<std::uint64_t, std::size_t> index;
    for (std::int64_t x = 0; x < pixels_; ++x) {
      const std::uint64_t pattern = Pattern(masks.value.data() + x * readers_, readers_);
      // Neighbours are mostly alike.
      if (cases.empty() || cases[last_].pattern != pattern) {
        const auto [at, added] = index.try_emplace(pattern, cases.size());
        if (added) cases.push_back({.pattern = pattern});
        last_ = at->second;
      }
      cases[last_].count += 1;
      case_of.push_back(static_cast<std::uint32_t>(last_));
      region_ += pattern != 0;
    }
    for (Case& c : cases) {
      c.prior = static_cast<double>(Marks(c.pattern)) / readers_;
      c.posterior = c.prior > 0.5 ? 1 : 0;  // of the mean of votes, a half is outside
    }
    accuracy.assign(readers_, kUndefined);
    Maximize();
  }

  bool empty() const { return region_ == 0; }

  // M step: one minus the expected share of wrong pixels, over those that anyone marked.
  void Maximize() {
    if (empty()) return;
    for (int r = 0; r < readers_; ++r) {
      double wrong = 0;
      for (const Case& c : cases) {
        wrong += c.count * (c.marked_by(r) ? 1 - c.posterior : c.posterior);
      }
      accuracy[r] = 1 - wrong / region_;
    }
  }

  // E step.
  void Expect() {
    for (Case& c : cases) {
      double inside = std::log(c.prior), outside = std::log(1 - c.prior);
      for (int r = 0; r < readers_; ++r) {
        const double a = accuracy[r];
        inside += std::log(c.marked_by(r) ? a : 1 - a);
        outside += std::log(c.marked_by(r) ? 1 - a : a);
      }
      // Impossible both ways is outside.
      c.posterior = std::isinf(inside) ? 0 : 1 / (1 + std::exp(outside - inside));
      if (c.posterior < kLeastPosterior) c.posterior = 0;
    }
  }

  // The bound that crowd-kit stops by, which has the prior once a reader, a value a vote.
  double Bound() const {
    double bound = 0;
    for (const Case& c : cases) {
      const double p = c.posterior;
      double sum = -TimesLog(p, p);
      for (int r = 0; r < readers_; ++r) {
        const double a = c.marked_by(r) ? accuracy[r] : 1 - accuracy[r];
        sum += TimesLog(p, a) + TimesLog(p, c.prior) + TimesLog(1 - p, 1 - a) +
               TimesLog(1 - p, 1 - c.prior);
      }
      bound += c.count * sum;
    }
    return bound / (static_cast<double>(readers_) * static_cast<double>(pixels_));
  }

  void TakePosteriorAsPrior() {
    for (Case& c : cases) c.prior = c.posterior;
  }

  std::vector<Case> cases;
  std::vector<std::uint32_t> case_of;  // [pixels]
  std::vector<double> accuracy;        // [readers]

 private:
  const int readers_;
  const std::int64_t pixels_;
  double region_ = 0;
  std::size_t last_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<float>> MeanMask(const ReaderMasks& masks) {
  if (auto s = Validate(masks); !s.ok()) return s;
  std::vector<float> mean(masks.pixels());
  const float all = static_cast<float>(masks.readers * masks.scale);
  for (std::size_t x = 0; x < mean.size(); ++x) {
    const auto pixel = masks.value.subspan(x * masks.readers, masks.readers);
    mean[x] = static_cast<float>(std::accumulate(pixel.begin(), pixel.end(), 0)) / all;
  }
  return mean;
}

absl::StatusOr<SegmentationEm> FitSegmentationEm(const ReaderMasks& masks,
                                                 const SegmentationEmOptions& options) {
  if (auto s = Validate(masks); !s.ok()) return s;
  if (masks.scale != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("scale: must be 1, of binary masks; was ", masks.scale));
  }
  if (masks.readers > kMaxReaders) {
    return absl::InvalidArgumentError(
        absl::StrCat("readers: must be at most ", kMaxReaders, "; were ", masks.readers));
  }
  Em em(masks);
  SegmentationEm out;
  double last = -std::numeric_limits<double>::infinity();
  while (!em.empty() && out.iterations < options.max_iterations) {
    em.Expect();
    em.Maximize();
    const double bound = em.Bound();
    em.TakePosteriorAsPrior();
    ++out.iterations;
    if (bound - last < options.tolerance) break;
    last = bound;
  }
  for (const std::uint32_t c : em.case_of) {
    const double p = em.empty() ? 0 : em.cases[c].prior;
    out.posterior.push_back(static_cast<float>(p));
    out.mask.push_back(p > 0.5);
  }
  out.accuracy = std::move(em.accuracy);
  return out;
}

}  // namespace softloss::annotation
