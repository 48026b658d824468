#include "kernels/annotation/state_sums.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_map.h"

namespace softloss::annotation {
namespace {

// `key`/length of the first name/first name/second name: no two pairs of names are the same key.
std::string PairKey(std::string_view key, const std::string& first, const std::string& second) {
  return absl::StrCat(std::string(key), "/", first.size(), "/", first, "/", second);
}

// The names in a PairKey after `key` and a slash.
std::optional<std::pair<std::string, std::string>> NamesOf(const std::string& rest) {
  std::size_t length = 0, at = 0;
  for (; at < rest.size() && rest[at] >= '0' && rest[at] <= '9'; ++at) {
    length = 10 * length + static_cast<std::size_t>(rest[at] - '0');
    if (length > rest.size()) return std::nullopt;
  }
  if (at == 0 || at + 2 + length > rest.size()) return std::nullopt;
  return std::make_pair(rest.substr(at + 1, length), rest.substr(at + 2 + length));
}

absl::Status WrongShape(const std::string& key) {
  return absl::InvalidArgumentError(absl::StrCat(key, ": is no pair of as many classes"));
}

}  // namespace

void SavePairs(const PairAgreement& pairs, absl::Span<const std::string> names,
               std::string_view key, State& state) {
  for (PairAgreement::PairSums& pair : pairs.Sums()) {
    if (names[pair.b] < names[pair.a]) {
      std::swap(pair.a, pair.b);
      // Σ q_a·q_b, then by halves the sums of a and of b.
      const auto half = static_cast<std::ptrdiff_t>(pair.sums.size() / 2);
      std::rotate(pair.sums.begin() + 1, pair.sums.begin() + 1 + half, pair.sums.end());
    }
    const std::string pair_key = PairKey(key, names[pair.a], names[pair.b]);
    state.sums(pair_key) = std::move(pair.sums);
    state.counts(pair_key) = {pair.items};
  }
}

absl::StatusOr<PairAgreement> LoadPairs(const State& state, absl::Span<const std::string> names,
                                        std::string_view key, PairAgreement pairs) {
  absl::flat_hash_map<std::string, std::int32_t> number;
  for (std::size_t i = 0; i < names.size(); ++i) number[names[i]] = static_cast<std::int32_t>(i);
  const std::string prefix = absl::StrCat(std::string(key), "/");
  const State::SumMap& all = state.all_sums();
  for (auto at = all.lower_bound(prefix); at != all.end(); ++at) {
    if (at->first.compare(0, prefix.size(), prefix) != 0) break;
    const auto pair_names = NamesOf(at->first.substr(prefix.size()));
    const std::vector<std::int64_t>* count = state.FindCounts(at->first);
    if (!pair_names.has_value() || count == nullptr || count->size() != 1 ||
        at->second.size() != pairs.sums_per_pair()) {
      return WrongShape(at->first);
    }
    const auto a = number.find(pair_names->first), b = number.find(pair_names->second);
    if (a == number.end() || b == number.end() || a == b) continue;
    pairs.AddSums({a->second, b->second, count->front(), at->second});
  }
  return pairs;
}

}  // namespace softloss::annotation
