// Accumulators to and from a State.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/annotation/pair_agreement.h"
#include "kernels/annotation/state.h"

namespace softloss::annotation {

// Of any accumulator with VisitSums or VisitCounts: AgreementSums, CoincidenceMatrix, ReliabilityBins,
// ConfidentThresholds, ConfidentJoint, MeanBootstrap, Overlap, PixelSums. Saved under one key, which
// merges as the accumulators do.
template <typename Sums>
void Save(Sums value, std::string_view key, State& state) {
  if constexpr (requires { value.VisitSums([](ExactSum&) {}); }) {
    std::vector<ExactSum>& sums = state.sums(key);
    sums.clear();
    value.VisitSums([&sums](ExactSum& sum) { sums.push_back(sum); });
  }
  if constexpr (requires { value.VisitCounts([](std::int64_t&) {}); }) {
    std::vector<std::int64_t>& counts = state.counts(key);
    counts.clear();
    value.VisitCounts([&counts](std::int64_t& count) { counts.push_back(count); });
  }
}

// value is an empty accumulator of the shape that was saved. NOT_FOUND: no such key;
// INVALID_ARGUMENT: of another shape.
template <typename Sums>
absl::StatusOr<Sums> Load(const State& state, std::string_view key, Sums value) {
  const auto read = [key](const auto* list, auto visit) -> absl::Status {
    if (list == nullptr)
      return absl::NotFoundError(absl::StrCat(std::string(key), ": not in the state"));
    std::size_t wanted = 0;
    visit([&wanted](auto&) { ++wanted; });
    if (list->size() != wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(key), ": must have ", wanted, " values; has ", list->size()));
    }
    auto next = list->begin();
    visit([&next](auto& to) { to = *next++; });
    return absl::OkStatus();
  };
  if constexpr (requires { value.VisitSums([](ExactSum&) {}); }) {
    const auto visit = [&value](auto visitor) { value.VisitSums(visitor); };
    if (auto s = read(state.FindSums(key), visit); !s.ok()) return s;
  }
  if constexpr (requires { value.VisitCounts([](std::int64_t&) {}); }) {
    const auto visit = [&value](auto visitor) { value.VisitCounts(visitor); };
    if (auto s = read(state.FindCounts(key), visit); !s.ok()) return s;
  }
  return value;
}

// Pairs of people under the names of both, [number] by number, so that shards may number them
// differently: one key a pair, `key` and the two names, the lesser first. Names are any bytes; no two
// are equal.
void SavePairs(const PairAgreement& pairs, absl::Span<const std::string> names,
               std::string_view key, State& state);
// `pairs` is empty, of the classes and marginals that were saved. Pairs of whom one is not among
// `names` are left out. INVALID_ARGUMENT: of another shape.
absl::StatusOr<PairAgreement> LoadPairs(const State& state, absl::Span<const std::string> names,
                                        std::string_view key, PairAgreement pairs);

}  // namespace softloss::annotation
