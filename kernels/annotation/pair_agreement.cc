#include "kernels/annotation/pair_agreement.h"

#include <algorithm>
#include <limits>

namespace softloss::annotation {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
// Chance agreement this near to 1 is the rounding of two people who always say one thing.
constexpr double kNoVariance = 1e-13;

// A voter on an item: soft votes have a row, hard ones a class.
struct Voter {
  std::int32_t number;
  std::int32_t label;
  absl::Span<const double> row;  // [K], or empty

  double probability(int k) const { return row.empty() ? (k == label ? 1.0 : 0.0) : row[k]; }
};

double Dot(const Voter& a, const Voter& b) {
  if (a.row.empty()) return b.probability(a.label);
  if (b.row.empty()) return a.row[b.label];
  double sum = 0;
  for (std::size_t k = 0; k < a.row.size(); ++k) sum += a.row[k] * b.row[k];
  return sum;
}

void AddVote(const Voter& voter, absl::Span<ExactSum> sums) {
  if (voter.row.empty()) {
    sums[voter.label] += 1;
  } else {
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += voter.row[k];
  }
}

std::uint64_t Key(std::int32_t a, std::int32_t b) {
  return static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint32_t>(b);
}

}  // namespace

PairAgreement::PairAgreement(int num_classes, bool marginals)
    : num_classes_(num_classes), marginals_(marginals) {}

std::size_t PairAgreement::Slot(std::uint64_t key) {
  const auto [at, added] = slot_.try_emplace(key, pair_.size());
  if (added) {
    pair_.emplace_back();
    if (marginals_) class_sum_.resize(class_sum_.size() + 2 * num_classes_);
  }
  return at->second;
}

absl::Span<ExactSum> PairAgreement::ClassSums(std::size_t slot, int side) {
  return absl::MakeSpan(class_sum_).subspan((2 * slot + side) * num_classes_, num_classes_);
}

void PairAgreement::AddItem(const Votes& votes, std::int64_t item, absl::Span<const double> model) {
  std::vector<Voter> voters;
  for (std::int64_t v = votes.item_begin(item); v < votes.item_begin(item + 1); ++v) {
    voters.push_back({votes.annotator(v), votes.label(v),
                      votes.soft() ? votes.probabilities(v) : absl::Span<const double>()});
  }
  if (!model.empty()) voters.push_back({votes.num_annotators(), 0, model});
  for (auto b = voters.begin(); b != voters.end(); ++b) {
    for (auto a = voters.begin(); a != b; ++a) {
      const std::size_t slot = Slot(Key(a->number, b->number));
      ++pair_[slot].items;
      pair_[slot].agreement += Dot(*a, *b);
      if (!marginals_) continue;
      AddVote(*a, ClassSums(slot, 0));
      AddVote(*b, ClassSums(slot, 1));
    }
  }
}

PairAgreement& PairAgreement::operator+=(const PairAgreement& other) {
  for (const auto& [key, from] : other.slot_) {
    const std::size_t to = Slot(key);
    pair_[to].items += other.pair_[from].items;
    pair_[to].agreement += other.pair_[from].agreement;
    if (!marginals_) continue;
    const std::size_t stride = 2 * static_cast<std::size_t>(num_classes_);
    for (std::size_t i = 0; i < stride; ++i) {
      class_sum_[to * stride + i] += other.class_sum_[from * stride + i];
    }
  }
  return *this;
}

double PairAgreement::ChanceAgreement(std::size_t slot) const {
  if (!marginals_) return kUndefined;
  const auto items = static_cast<double>(pair_[slot].items);
  double sum = 0;
  for (int k = 0; k < num_classes_; ++k) {
    sum += class_sum_[2 * slot * num_classes_ + k].value() *
           class_sum_[(2 * slot + 1) * num_classes_ + k].value();
  }
  return sum / (items * items);
}

std::vector<std::pair<std::uint64_t, std::size_t>> PairAgreement::Sorted() const {
  std::vector<std::pair<std::uint64_t, std::size_t>> slots(slot_.begin(), slot_.end());
  std::sort(slots.begin(), slots.end());
  return slots;
}

std::vector<PairFigure> PairAgreement::Pairs() const {
  std::vector<PairFigure> figures;
  figures.reserve(pair_.size());
  for (const auto& [key, slot] : Sorted()) {
    PairFigure figure;
    figure.a = static_cast<std::int32_t>(key >> 32);
    figure.b = static_cast<std::int32_t>(key & 0xFFFFFFFFu);
    figure.items = pair_[slot].items;
    figure.agreement = pair_[slot].agreement.value() / static_cast<double>(figure.items);
    const double chance = ChanceAgreement(slot);
    figure.cohen_kappa =
        1 - chance > kNoVariance ? (figure.agreement - chance) / (1 - chance) : kUndefined;
    figures.push_back(figure);
  }
  return figures;
}

std::vector<PairAgreement::PairSums> PairAgreement::Sums() const {
  std::vector<PairSums> all;
  all.reserve(pair_.size());
  for (const auto& [key, slot] : Sorted()) {
    PairSums& pair = all.emplace_back();
    pair.a = static_cast<std::int32_t>(key >> 32);
    pair.b = static_cast<std::int32_t>(key & 0xFFFFFFFFu);
    pair.items = pair_[slot].items;
    pair.sums.push_back(pair_[slot].agreement);
    if (!marginals_) continue;
    const auto begin = class_sum_.begin() + static_cast<std::ptrdiff_t>(2 * slot * num_classes_);
    pair.sums.insert(pair.sums.end(), begin, begin + 2 * num_classes_);
  }
  return all;
}

void PairAgreement::AddSums(const PairSums& pair) {
  const bool swapped = pair.a > pair.b;
  const std::size_t slot = Slot(swapped ? Key(pair.b, pair.a) : Key(pair.a, pair.b));
  pair_[slot].items += pair.items;
  pair_[slot].agreement += pair.sums[0];
  if (!marginals_) return;
  for (int side = 0; side < 2; ++side) {
    const absl::Span<ExactSum> to = ClassSums(slot, swapped ? 1 - side : side);
    for (int k = 0; k < num_classes_; ++k) to[k] += pair.sums[1 + side * num_classes_ + k];
  }
}

double PairAgreement::PooledKappa() const {
  // In the order of the pairs, so that the bits do not depend on how they came.
  double gained = 0, possible = 0;
  double pairs = 0;
  for (const auto& [key, slot] : Sorted()) {
    const auto items = static_cast<double>(pair_[slot].items);
    const double chance = ChanceAgreement(slot);
    gained += pair_[slot].agreement.value() - items * chance;
    possible += items * (1 - chance);
    pairs += items;
  }
  return possible > kNoVariance * pairs ? gained / possible : kUndefined;
}

}  // namespace softloss::annotation
