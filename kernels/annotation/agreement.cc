#include "kernels/annotation/agreement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/container/inlined_vector.h"

namespace softloss::annotation {

// What an item's votes sum to, without rounding where they are hard.
struct ItemSums {
  // Σ_r q_rc of the classes that have any, ascending; of hard votes, numbers of votes.
  absl::InlinedVector<std::pair<std::int32_t, double>, 16> classes;
  double squares = 0;  // Σ ‖q_r‖²
  double pairs = 0;    // Σ_{r≠s} q_r·q_s
  double spread = 0;   // Σ_{r≠s} ‖q_r − q_s‖²

  double of(std::int32_t c) const {
    return std::lower_bound(classes.begin(), classes.end(), std::make_pair(c, 0.0))->second;
  }
};

namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
// Expected disagreement of this share of its terms is the rounding of votes that are all alike.
constexpr double kNoVariance = 1e-13;

double OneMinusRatio(double observed, double expected) {
  return expected > 0 ? 1 - observed / expected : kUndefined;
}

ItemSums SumHard(const Votes& votes, std::int64_t begin, std::int64_t end) {
  ItemSums out;
  for (std::int64_t v = begin; v < end; ++v) {
    const std::int32_t label = votes.label(v);
    const auto same = std::find_if(out.classes.begin(), out.classes.end(),
                                   [label](const auto& entry) { return entry.first == label; });
    if (same == out.classes.end()) {
      out.classes.emplace_back(label, 1.0);
    } else {
      out.pairs += 2 * same->second++;
    }
  }
  std::sort(out.classes.begin(), out.classes.end());
  const auto m = static_cast<double>(end - begin);
  out.squares = m;
  out.spread = 2 * (m * (m - 1) - out.pairs);
  return out;
}

ItemSums SumSoft(const Votes& votes, std::int64_t begin, std::int64_t end) {
  ItemSums out;
  const auto m = static_cast<double>(end - begin);
  for (int k = 0; k < votes.num_classes(); ++k) {
    double sum = 0;
    for (std::int64_t v = begin; v < end; ++v) {
      const double q = votes.probability(v, k);
      out.pairs += 2 * q * sum;
      out.squares += q * q;
      sum += q;
    }
    if (sum == 0) continue;
    out.classes.emplace_back(k, sum);
    // About the mean: 2mΣ‖q‖² − 2‖Σq‖² would lose what little there is between votes nearly alike.
    for (std::int64_t v = begin; v < end; ++v) {
      const double off = votes.probability(v, k) - sum / m;
      out.spread += 2 * m * off * off;
    }
  }
  return out;
}

ItemSums SumItem(const Votes& votes, std::int64_t begin, std::int64_t end) {
  return votes.soft() ? SumSoft(votes, begin, end) : SumHard(votes, begin, end);
}

std::vector<double> ScaleOf(AlphaMetric metric, absl::Span<const double> values,
                            const std::vector<double>& margin) {
  std::vector<double> scale(margin.size());
  double below = 0;
  for (std::size_t c = 0; c < margin.size(); ++c) {
    if (metric == AlphaMetric::kOrdinal) {
      // Middle ranks: their differences are the metric's sums over the classes between.
      scale[c] = below + margin[c] / 2;
      below += margin[c];
    } else {
      scale[c] = values.empty() ? static_cast<double>(c) : values[c];
    }
  }
  return scale;
}

}  // namespace

CoincidenceMatrix::CoincidenceMatrix(int num_classes)
    : num_classes_(num_classes),
      cell_(Cell(num_classes - 1, num_classes - 1) + 1),
      margin_(num_classes) {}

void CoincidenceMatrix::AddItem(const Votes& votes, std::int64_t item) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  if (end - begin >= 2) AddItem(votes, item, SumItem(votes, begin, end));
}

void CoincidenceMatrix::AddItem(const Votes& votes, std::int64_t item, const ItemSums& sums) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  const auto others = static_cast<double>(end - begin - 1);
  for (auto c = sums.classes.begin(); c != sums.classes.end(); ++c) {
    margin_[c->first] += c->second;
    for (auto k = sums.classes.begin(); k <= c; ++k) {
      double own = 0;  // Σ_r q_rc q_rk: pairs of a vote with itself
      if (votes.soft()) {
        for (std::int64_t v = begin; v < end; ++v) {
          own += votes.probability(v, c->first) * votes.probability(v, k->first);
        }
      } else if (c == k) {
        own = c->second;
      }
      cell_[Cell(c->first, k->first)] += (c->second * k->second - own) / others;
    }
  }
}

CoincidenceMatrix& CoincidenceMatrix::operator+=(const CoincidenceMatrix& other) {
  for (std::size_t i = 0; i < cell_.size(); ++i) cell_[i] += other.cell_[i];
  for (std::size_t c = 0; c < margin_.size(); ++c) margin_[c] += other.margin_[c];
  return *this;
}

double CoincidenceMatrix::Alpha(AlphaMetric metric, absl::Span<const double> values) const {
  std::vector<double> margins(num_classes_);
  double n = 0;
  for (int c = 0; c < num_classes_; ++c) {
    margins[c] = margin(c);
    n += margins[c];
  }
  const std::vector<double> scale = ScaleOf(metric, values, margins);
  double observed = 0, expected = 0;
  for (int c = 0; c < num_classes_; ++c) {
    for (int k = 0; k < c; ++k) {
      const double step = scale[c] - scale[k];
      const double distance = metric == AlphaMetric::kNominal ? 1.0 : step * step;
      observed += 2 * coincidences(c, k) * distance;
      expected += 2 * margins[c] * margins[k] * distance;
    }
  }
  return OneMinusRatio(observed / n, expected / (n * (n - 1)));
}

double ItemAgreement(const Votes& votes, std::int64_t item) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  if (end - begin < 2) return kUndefined;
  const auto m = static_cast<double>(end - begin);
  return SumItem(votes, begin, end).pairs / (m * (m - 1));
}

void VoteAgreements(const Votes& votes, std::int64_t item, absl::Span<double> out) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  if (end - begin < 2) {
    std::fill(out.begin(), out.end(), kUndefined);
    return;
  }
  const ItemSums sums = SumItem(votes, begin, end);
  const auto others = static_cast<double>(end - begin - 1);
  for (std::int64_t v = begin; v < end; ++v) {
    double agreement = 0;
    if (votes.soft()) {
      for (const auto& [k, sum] : sums.classes) {
        const double q = votes.probability(v, k);
        agreement += q * (sum - q);
      }
    } else {
      agreement = sums.of(votes.label(v)) - 1;
    }
    out[v - begin] = agreement / others;
  }
}

AgreementSums::AgreementSums(int num_classes) : class_sum_(num_classes) {
  if (num_classes <= kMaxScaleClasses) matrix_.emplace(num_classes);
}

void AgreementSums::AddItem(const Votes& votes, std::int64_t item) {
  const std::int64_t begin = votes.item_begin(item), end = votes.item_begin(item + 1);
  if (end - begin < 2) return;
  const auto m = static_cast<double>(end - begin);
  const ItemSums sums = SumItem(votes, begin, end);
  ++items_;
  votes_ += end - begin;
  squares_ += sums.squares;
  spread_ += sums.spread / (m - 1);
  item_agreement_ += sums.pairs / (m * (m - 1));
  pairs_ += sums.pairs / (m - 1);
  for (const auto& [c, sum] : sums.classes) class_sum_[c] += sum;
  if (matrix_.has_value()) matrix_->AddItem(votes, item, sums);
}

AgreementSums& AgreementSums::operator+=(const AgreementSums& other) {
  items_ += other.items_;
  votes_ += other.votes_;
  squares_ += other.squares_;
  spread_ += other.spread_;
  item_agreement_ += other.item_agreement_;
  pairs_ += other.pairs_;
  for (std::size_t c = 0; c < class_sum_.size(); ++c) class_sum_[c] += other.class_sum_[c];
  if (matrix_.has_value()) *matrix_ += *other.matrix_;
  return *this;
}

Agreement AgreementSums::Finish(absl::Span<const double> values) const {
  const auto items = static_cast<double>(items_), n = static_cast<double>(votes_);
  double class_squares = 0;  // ‖Σq‖²
  for (const ExactSum& sum : class_sum_) class_squares += sum.value() * sum.value();
  const double chance = class_squares / (n * n);
  const double expected_nominal = 1 - chance > kNoVariance ? n * n - class_squares : 0;
  const double squares = n * squares_.value();
  const double expected_soft =
      squares - class_squares > kNoVariance * squares ? 2 * (squares - class_squares) : 0;

  Agreement out;
  out.items = items_;
  out.votes = votes_;
  out.alpha_nominal = OneMinusRatio((n - pairs_.value()) / n, expected_nominal / (n * (n - 1)));
  out.alpha_soft = OneMinusRatio(spread_.value() / n, expected_soft / (n * (n - 1)));
  out.alpha_ordinal = out.alpha_interval = kUndefined;
  if (matrix_.has_value()) {
    out.alpha_ordinal = matrix_->Alpha(AlphaMetric::kOrdinal);
    out.alpha_interval = matrix_->Alpha(AlphaMetric::kInterval, values);
  }
  out.percent = item_agreement_.value() / items;
  out.fleiss_kappa = OneMinusRatio(1 - out.percent, 1 - chance > kNoVariance ? 1 - chance : 0);
  return out;
}

}  // namespace softloss::annotation
