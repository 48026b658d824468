#include "client/python/binding/quality_state.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "absl/strings/str_cat.h"
#include "client/python/binding/quality_votes.h"
#include "client/python/binding/status.h"
#include "kernels/annotation/analysis_columns.h"
#include "kernels/annotation/shard_summary.h"

namespace softloss::python {
namespace {

using annotation::State;

using Names = std::vector<std::string>;

std::string_view View(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

nb::bytes Summarize(const annotation::Votes& votes, const std::string& shard, const Names& items,
                    const Names& annotators, const Names& classes,
                    const std::optional<Matrix>& predictions, const std::optional<Matrix>& gold,
                    int bootstrap_replicates) {
  absl::StatusOr<State> state;
  std::string bytes;
  {
    nb::gil_scoped_release release;
    state = annotation::SummarizeShard(shard, {items, annotators, classes}, votes,
                                       OptionalRows(predictions).get(), OptionalRows(gold).get(),
                                       bootstrap_replicates);
    if (state.ok()) bytes = state->Serialize();
  }
  if (!state.ok()) Raise(state.status());
  return nb::bytes(bytes.data(), bytes.size());
}

// The error says which of the states it is about.
State Parsed(const nb::bytes& bytes, std::size_t index) {
  absl::StatusOr<State> state = State::Parse(View(bytes));
  if (!state.ok()) {
    Raise(absl::Status(state.status().code(),
                       absl::StrCat("states[", index, "]: ", state.status().message())),
          "states");
  }
  return *std::move(state);
}

nb::bytes Merge(const std::vector<nb::bytes>& states) {
  if (states.empty()) {
    Raise(absl::InvalidArgumentError("states: must be at least one; was none"), "states");
  }
  State merged = Parsed(states[0], 0);
  for (std::size_t i = 1; i < states.size(); ++i) {
    if (absl::Status s = merged.Merge(Parsed(states[i], i)); !s.ok()) {
      Raise(absl::Status(s.code(), absl::StrCat("states[", i, "]: ", s.message())), "states");
    }
  }
  const std::string bytes = merged.Serialize();
  return nb::bytes(bytes.data(), bytes.size());
}

nb::dict Read(const nb::bytes& bytes, double min_agreement, double min_votes,
              std::vector<double> class_values) {
  const State state = Parsed(bytes, 0);
  annotation::AnalysisOptions options;
  options.min_agreement = min_agreement;
  options.min_votes = min_votes;
  options.class_values = std::move(class_values);
  absl::StatusOr<annotation::ShardSummary> summary = annotation::ReadSummary(state, options);
  if (!summary.ok()) Raise(summary.status());
  nb::dict out;
  out["classes"] = state.classes();
  out["shards"] = Names(state.shards().begin(), state.shards().end());
  out["annotators"] = summary->annotators;
  out["items"] = summary->items;
  out["items_with_two_votes"] = summary->items_with_two_votes;
  out["votes"] = summary->votes;
  out["predictions"] = summary->predictions;
  out["gold"] = summary->gold;
  out["columns"] = ToDict(annotation::ToColumns(summary->analysis));
  return out;
}

}  // namespace

void BindQualityState(nb::module_& m) {
  m.def("quality_summarize", &Summarize, nb::arg("votes"), nb::kw_only(), nb::arg("shard"),
        nb::arg("items"), nb::arg("annotators"), nb::arg("classes"),
        nb::arg("predictions").none() = nb::none(), nb::arg("gold").none() = nb::none(),
        nb::arg("bootstrap_replicates") = 200);
  m.def("quality_merge", &Merge, nb::arg("states"));
  m.def("quality_read_summary", &Read, nb::arg("state"), nb::kw_only(), nb::arg("min_agreement"),
        nb::arg("min_votes"), nb::arg("class_values"));
}

}  // namespace softloss::python
