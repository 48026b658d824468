#include "server/quality_rows.h"

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status CheckLength(const char* column, std::int64_t length, std::int64_t rows) {
  if (length == rows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(column, ": must have a value a row (", rows, "); has ", length));
}

// Labels are ids, or distributions.
template <typename Rows>
absl::Status CheckLabels(const Rows& rows, std::size_t classes) {
  const std::int64_t n = rows.item_size();
  if ((rows.class_id_size() > 0) == (rows.probability_size() > 0) && n > 0) {
    return absl::InvalidArgumentError("rows: give either class_id or probability");
  }
  if (rows.class_id_size() > 0) return CheckLength("class_id", rows.class_id_size(), n);
  if (rows.probability_size() != n * static_cast<std::int64_t>(classes)) {
    return absl::InvalidArgumentError(absl::StrCat("probability: must have ", classes,
                                                   " values a row (", n, " rows); has ",
                                                   rows.probability_size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<VoteRow>> VoteRowsOf(const v1::Votes& votes, std::size_t classes) {
  const std::int64_t n = votes.item_size();
  if (auto s = CheckLength("annotator", votes.annotator_size(), n); !s.ok()) return s;
  if (auto s = CheckLabels(votes, classes); !s.ok()) return s;
  if (votes.weight_size() > 0) {
    if (auto s = CheckLength("weight", votes.weight_size(), n); !s.ok()) return s;
  }
  if (votes.time_size() > 0) {
    if (auto s = CheckLength("time", votes.time_size(), n); !s.ok()) return s;
  }
  if (votes.vote_id_size() > 0) {
    if (auto s = CheckLength("vote_id", votes.vote_id_size(), n); !s.ok()) return s;
  }
  const absl::Span<const double> probability(votes.probability().data(), votes.probability_size());
  std::vector<VoteRow> out(n);
  for (int i = 0; i < n; ++i) {
    VoteRow& row = out[i];
    row.item = votes.item(i);
    row.annotator = votes.annotator(i);
    if (votes.class_id_size() > 0) {
      row.label = votes.class_id(i);
    } else {
      row.probabilities = probability.subspan(i * classes, classes);
    }
    if (votes.weight_size() > 0) row.weight = votes.weight(i);
    if (votes.time_size() > 0) row.time = votes.time(i);
    if (votes.vote_id_size() > 0) row.vote_id = votes.vote_id(i);
  }
  return out;
}

absl::StatusOr<std::vector<Campaign::ItemRow>> ItemRowsOf(const v1::Distributions& rows,
                                                          std::size_t classes,
                                                          std::vector<double>* one_hot) {
  const std::int64_t n = rows.item_size();
  if (auto s = CheckLabels(rows, classes); !s.ok()) return s;
  absl::Span<const double> probability(rows.probability().data(), rows.probability_size());
  if (rows.class_id_size() > 0) {
    // An id out of range has a row of zeros, which is refused as such: it must be said here.
    one_hot->assign(n * classes, 0);
    for (int i = 0; i < n; ++i) {
      const std::int32_t id = rows.class_id(i);
      if (id < 0 || static_cast<std::size_t>(id) >= classes) {
        return absl::InvalidArgumentError(
            absl::StrCat("class_id[", i, "]: must be from 0 to ", classes - 1, "; was ", id));
      }
      (*one_hot)[i * classes + id] = 1;
    }
    probability = *one_hot;
  }
  std::vector<Campaign::ItemRow> out(n);
  for (int i = 0; i < n; ++i) out[i] = {rows.item(i), probability.subspan(i * classes, classes)};
  return out;
}

CampaignOptions OptionsOf(const v1::CampaignOptions& options) {
  return {.classes = {options.classes().begin(), options.classes().end()},
          .close_after_votes = options.close_after_votes(),
          .close_after_seconds = options.close_after_seconds()};
}

v1::CampaignOptions ToProto(const CampaignOptions& options) {
  v1::CampaignOptions out;
  for (const std::string& name : options.classes) out.add_classes(name);
  out.set_close_after_votes(options.close_after_votes);
  out.set_close_after_seconds(options.close_after_seconds);
  return out;
}

absl::StatusOr<annotation::AnalysisOptions> OptionsOf(const v1::AnalyzeRequest& request) {
  annotation::AnalysisOptions out;
  // The enumerations are the same numbers; unspecified is automatic.
  if (!v1::ConsensusMethod_IsValid(request.method())) {
    return absl::InvalidArgumentError(
        absl::StrCat("method: no such consensus method: ", static_cast<int>(request.method())));
  }
  out.method = static_cast<annotation::ConsensusMethod>(request.method());
  out.class_values = {request.class_values().begin(), request.class_values().end()};
  if (request.has_bootstrap_replicates()) {
    out.bootstrap_replicates = request.bootstrap_replicates();
  }
  if (request.has_worklist_items()) out.worklist_items = request.worklist_items();
  if (request.has_drift_windows()) out.drift_windows = request.drift_windows();
  out.calibrate_predictions = request.calibrate_predictions();
  if (request.has_min_agreement()) out.min_agreement = request.min_agreement();
  if (request.has_min_votes()) out.min_votes = request.min_votes();
  if (request.has_spammer_score()) out.spammer_score = request.spammer_score();
  if (request.has_collapse_share()) out.collapse_share = request.collapse_share();
  if (request.has_collapse_excess()) out.collapse_excess = request.collapse_excess();
  return out;
}

}  // namespace softloss
