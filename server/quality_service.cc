#include "server/quality_service.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/quality_rows.h"

namespace softloss {
namespace {

constexpr int kAlertKinds = 4;
constexpr const char* kAlertNames[kAlertKinds] = {"below_threshold", "drift", "spammer",
                                                  "class_collapse"};

annotation::Distributions* OrNull(annotation::Distributions& d) {
  return std::find(d.present.begin(), d.present.end(), 1) != d.present.end() ? &d : nullptr;
}

bool Wanted(const v1::AnalyzeRequest& request, const std::string& column) {
  return request.columns_size() == 0 ||
         std::any_of(request.columns().begin(), request.columns().end(),
                     [&](const std::string& prefix) { return absl::StartsWith(column, prefix); });
}

void SetError(const absl::Status& status, std::int64_t row, v1::RowError* error) {
  error->set_row(row);
  error->set_code(static_cast<std::int32_t>(status.code()));
  error->set_message(std::string(status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<QualityService>> QualityService::Create(const Options& options,
                                                                       Executor* executor,
                                                                       std::function<double()> now,
                                                                       Metrics* metrics) {
  absl::StatusOr<Catalogue> catalogue = Catalogue::Open(options.folder);
  if (!catalogue.ok()) return catalogue.status();
  std::unique_ptr<QualityService> service(
      new QualityService(options, *std::move(catalogue), executor, std::move(now), metrics));
  // Open all, so that the metrics show what there is from the start.
  absl::StatusOr<std::vector<Catalogue::Entry>> entries = service->catalogue_.ListAll();
  if (!entries.ok()) return entries.status();
  for (const Catalogue::Entry& entry : *entries) {
    const std::shared_ptr<Open> open = service->OpenEntry(entry);
    std::lock_guard<std::mutex> lock(open->writing);
    if (auto s = service->Use(open); !s.ok()) return s;
    if (auto counts = service->Count(*open); !counts.ok()) return counts.status();
  }
  return service;
}

std::shared_ptr<QualityService::Open> QualityService::OpenEntry(const Catalogue::Entry& entry) {
  std::shared_ptr<Open>& open = open_[{entry.owner, entry.name}];
  if (open == nullptr) open = std::make_shared<Open>(entry, catalogue_.PathOf(entry));
  return open;
}

absl::Status QualityService::Use(const std::shared_ptr<Open>& open) {
  if (open->deleted) {
    return absl::NotFoundError(
        absl::StrCat("campaign: \"", open->entry.name, "\" has been deleted"));
  }
  if (!open->campaign.has_value()) {
    absl::StatusOr<Campaign> campaign = Campaign::Open(open->path);
    if (!campaign.ok()) return campaign.status();
    open->campaign = *std::move(campaign);
  }
  std::lock_guard<std::mutex> lock(files_mutex_);
  with_files_.remove(open);
  with_files_.push_front(open);
  auto last = with_files_.end();
  while (with_files_.size() > kMostFiles && --last != with_files_.begin()) {
    // One that is being used stays.
    std::unique_lock<std::mutex> writing((*last)->writing, std::try_to_lock);
    if (!writing.owns_lock()) continue;
    (*last)->campaign.reset();
    writing.unlock();
    last = with_files_.erase(last);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<QualityService::Open>> QualityService::Find(
    std::string_view owner, const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto there = open_.find({std::string(owner), name});
  if (there != open_.end()) return there->second;
  return absl::NotFoundError(absl::StrCat("campaign: there is no \"", name, "\""));
}

absl::StatusOr<CampaignCounts> QualityService::Count(Open& open) {
  if (auto closed = open.campaign->CloseDue(now_()); !closed.ok()) return closed.status();
  absl::StatusOr<CampaignCounts> counts = open.campaign->Counts();
  if (!counts.ok()) return counts;
  open.open_items = counts->items - counts->closed_items;
  open.closed_items = counts->closed_items;
  return counts;
}

absl::StatusOr<v1::Campaign> QualityService::Describe(const std::shared_ptr<Open>& open) {
  std::lock_guard<std::mutex> lock(open->writing);
  if (auto s = Use(open); !s.ok()) return s;
  const absl::StatusOr<CampaignCounts> counts = Count(*open);
  if (!counts.ok()) return counts.status();
  v1::Campaign out;
  out.set_name(open->entry.name);
  *out.mutable_options() = ToProto(open->campaign->options());
  out.set_items(counts->items);
  out.set_closed_items(counts->closed_items);
  out.set_annotators(counts->annotators);
  out.set_votes(counts->votes);
  out.set_predictions(counts->predictions);
  out.set_gold(counts->gold);
  return out;
}

absl::StatusOr<v1::Campaign> QualityService::OpenCampaign(std::string_view owner,
                                                          const v1::OpenCampaignRequest& request) {
  std::shared_ptr<Open> open;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const absl::StatusOr<Catalogue::Entry> entry = catalogue_.OpenOrCreate(
        owner, request.name(), OptionsOf(request.options()), options_.max_campaigns);
    if (!entry.ok()) return entry.status();
    open = OpenEntry(*entry);
  }
  return Describe(open);
}

absl::StatusOr<v1::ListCampaignsResponse> QualityService::ListCampaigns(
    std::string_view owner, const v1::ListCampaignsRequest&) {
  std::vector<std::shared_ptr<Open>> all;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, open] : open_) {
      if (key.first == owner) all.push_back(open);
    }
  }
  v1::ListCampaignsResponse out;
  for (const std::shared_ptr<Open>& open : all) {
    absl::StatusOr<v1::Campaign> campaign = Describe(open);
    if (!campaign.ok()) return campaign.status();
    *out.add_campaigns() = *std::move(campaign);
  }
  return out;
}

absl::StatusOr<v1::DeleteCampaignResponse> QualityService::DeleteCampaign(
    std::string_view owner, const v1::DeleteCampaignRequest& request) {
  const absl::StatusOr<std::shared_ptr<Open>> open = Find(owner, request.name());
  if (!open.ok()) return open.status();
  std::lock_guard<std::mutex> writing((*open)->writing);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto s = catalogue_.Delete(owner, request.name()); !s.ok()) return s;
    open_.erase({std::string(owner), request.name()});
  }
  (*open)->deleted = true;  // for calls that still hold it
  (*open)->campaign.reset();
  std::lock_guard<std::mutex> files_lock(files_mutex_);
  with_files_.remove(*open);
  return v1::DeleteCampaignResponse();
}

absl::StatusOr<v1::CloseItemsResponse> QualityService::CloseItems(
    std::string_view owner, const v1::CloseItemsRequest& request) {
  const absl::StatusOr<std::shared_ptr<Open>> open = Find(owner, request.campaign());
  if (!open.ok()) return open.status();
  std::lock_guard<std::mutex> lock((*open)->writing);
  if (auto s = Use(*open); !s.ok()) return s;
  const std::vector<std::string_view> items(request.items().begin(), request.items().end());
  const absl::StatusOr<std::int64_t> closed = (*open)->campaign->Close(items);
  if (!closed.ok()) return closed.status();
  if (auto counts = Count(**open); !counts.ok()) return counts.status();
  v1::CloseItemsResponse out;
  out.set_closed(*closed);
  return out;
}

absl::StatusOr<FeedResult> QualityService::Store(Open& open, const v1::FeedRequest& request) {
  Campaign& campaign = *open.campaign;
  const std::size_t classes = campaign.options().classes.size();
  const double now = now_();
  if (auto closed = campaign.CloseDue(now); !closed.ok()) return closed.status();
  std::vector<double> one_hot;
  switch (request.rows_case()) {
    case v1::FeedRequest::kVotes: {
      absl::StatusOr<std::vector<VoteRow>> rows = VoteRowsOf(request.votes(), classes);
      return rows.ok() ? campaign.AddVotes(*rows, now) : rows.status();
    }
    case v1::FeedRequest::kPredictions: {
      const auto rows = ItemRowsOf(request.predictions(), classes, &one_hot);
      return rows.ok() ? campaign.SetPredictions(*rows) : rows.status();
    }
    case v1::FeedRequest::kGold: {
      const auto rows = ItemRowsOf(request.gold(), classes, &one_hot);
      return rows.ok() ? campaign.SetGold(*rows) : rows.status();
    }
    case v1::FeedRequest::ROWS_NOT_SET: break;
  }
  return absl::InvalidArgumentError("rows: give votes, predictions or gold; none is there");
}

v1::FeedResponse QualityService::Feed(std::string_view owner, const v1::FeedRequest& request) {
  v1::FeedResponse out;
  const auto store = [&]() -> absl::StatusOr<FeedResult> {
    const absl::StatusOr<std::shared_ptr<Open>> open = Find(owner, request.campaign());
    if (!open.ok()) return open.status();
    std::lock_guard<std::mutex> lock((*open)->writing);
    if (auto s = Use(*open); !s.ok()) return s;
    absl::StatusOr<FeedResult> stored = Store(**open, request);
    if (stored.ok() && stored->accepted > 0) (*open)->changed = true;
    if (auto counts = Count(**open); stored.ok() && !counts.ok()) return counts.status();
    return stored;
  };
  const absl::StatusOr<FeedResult> result = store();
  if (!result.ok()) {
    SetError(result.status(), 0, out.mutable_error());
    return out;
  }
  out.set_accepted(result->accepted);
  out.set_duplicates(result->duplicates);
  out.set_superseded(result->superseded);
  for (const FeedResult::RowError& error : result->errors) {
    SetError(error.status, error.row, out.add_row_errors());
  }
  if (request.has_votes()) {
    metrics_->QualityVotes(VoteOutcome::kAccepted, result->accepted);
    metrics_->QualityVotes(VoteOutcome::kDuplicate, result->duplicates);
    metrics_->QualityVotes(VoteOutcome::kSuperseded, result->superseded);
    metrics_->QualityVotes(VoteOutcome::kRefused, static_cast<std::int64_t>(result->errors.size()));
  }
  return out;
}

absl::StatusOr<CampaignAnalysis> QualityService::Analyze(std::string_view owner,
                                                         const v1::AnalyzeRequest& request) {
  const absl::StatusOr<std::shared_ptr<Open>> open = Find(owner, request.campaign());
  if (!open.ok()) return open.status();
  return AnalyzeOpen(*open, request);
}

absl::StatusOr<CampaignAnalysis> QualityService::AnalyzeOpen(const std::shared_ptr<Open>& shared,
                                                             const v1::AnalyzeRequest& request) {
  Open& open = *shared;
  const absl::StatusOr<annotation::AnalysisOptions> options = OptionsOf(request);
  if (!options.ok()) return options.status();
  const bool all = request.scope() == v1::ALL_ITEMS;
  {
    std::lock_guard<std::mutex> lock(open.writing);
    if (auto s = Use(shared); !s.ok()) return s;
    const absl::StatusOr<CampaignCounts> counts = Count(open);
    if (!counts.ok()) return counts.status();
    if (counts->items == 0 || (!all && counts->closed_items == 0)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "scope: no item to analyse: ", counts->closed_items, " are closed and ",
          counts->items - counts->closed_items, " are open; close some, or ask for ALL_ITEMS"));
    }
    if (all) open.changed = false;
  }
  // A connection of its own: votes may come in meanwhile.
  absl::StatusOr<Campaign> reader = Campaign::Open(open.path);
  if (!reader.ok()) return reader.status();
  absl::StatusOr<CampaignData> data =
      reader->Read(all ? ItemScope::kAll : ItemScope::kClosed, options_.memory_bytes);
  if (!data.ok()) return data.status();
  const absl::StatusOr<annotation::Analysis> analysis = annotation::Analyze(
      data->votes, OrNull(data->predictions), OrNull(data->gold), *options, *executor_);
  if (!analysis.ok()) return analysis.status();
  {
    std::lock_guard<std::mutex> lock(open.alerts_mutex);
    open.alerts.assign(kAlertKinds, 0);
    for (const annotation::Alert& alert : analysis->alerts) {
      ++open.alerts[static_cast<int>(alert.kind)];
    }
  }
  CampaignAnalysis out{
      std::move(data->items), std::move(data->annotators), reader->options().classes, {}};
  for (annotation::Column& column : annotation::ToColumns(*analysis)) {
    if (Wanted(request, column.name)) out.columns.push_back(std::move(column));
  }
  return out;
}

void QualityService::RefreshAlerts() {
  if (refreshing_.exchange(true)) return;
  std::vector<std::shared_ptr<Open>> changed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, open] : open_) {
      if (open->changed) changed.push_back(open);
    }
  }
  v1::AnalyzeRequest request;
  request.set_scope(v1::ALL_ITEMS);
  request.set_bootstrap_replicates(0);
  request.add_columns("alert.");
  for (const std::shared_ptr<Open>& open : changed) {
    if (auto analysis = AnalyzeOpen(open, request); !analysis.ok()) {
      Log(LogLevel::kWarning, absl::StrCat("no alerts of campaign ", open->entry.name, ": ",
                                           std::string(analysis.status().message())));
    }
  }
  refreshing_ = false;
}

std::vector<GaugeSample> QualityService::ItemSamples() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<GaugeSample> out;
  for (const auto& [key, open] : open_) {
    for (const auto& [state, n] : {std::pair{"open", open->open_items.load()},
                                   std::pair{"closed", open->closed_items.load()}}) {
      out.push_back(
          {{{"tenant", open->entry.owner}, {"campaign", open->entry.name}, {"state", state}},
           static_cast<double>(n)});
    }
  }
  return out;
}

std::vector<GaugeSample> QualityService::AlertSamples() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<GaugeSample> out;
  for (const auto& [key, open] : open_) {
    std::lock_guard<std::mutex> alerts_lock(open->alerts_mutex);
    for (std::size_t kind = 0; kind < open->alerts.size(); ++kind) {
      out.push_back({{{"tenant", open->entry.owner},
                      {"campaign", open->entry.name},
                      {"kind", kAlertNames[kind]}},
                     static_cast<double>(open->alerts[kind])});
    }
  }
  return out;
}

bool AnalysisParts::AddNames(const std::vector<std::string>& names,
                             google::protobuf::RepeatedPtrField<std::string>* to,
                             std::int64_t* room) {
  for (; next_ < names.size() && *room > 0; ++next_) {
    *room -= static_cast<std::int64_t>(names[next_].size()) + 4;
    *to->Add() = names[next_];
  }
  return next_ == names.size();
}

bool AnalysisParts::AddColumn(const annotation::Column& column, v1::AnalyzeResponse* part,
                              std::int64_t* room) {
  v1::Column* out = part->add_columns();
  out->set_name(column.name);
  for (const std::int64_t n : column.shape) out->add_shape(n);
  *room -= static_cast<std::int64_t>(column.name.size()) + 32;
  return std::visit(
      [&](const auto& values) {
        const std::size_t n = std::min(
            values.size() - next_, static_cast<std::size_t>(std::max<std::int64_t>(*room / 8, 1)));
        if constexpr (std::is_same_v<std::decay_t<decltype(values)>, std::vector<double>>) {
          out->mutable_real()->Add(values.begin() + next_, values.begin() + next_ + n);
        } else {
          out->mutable_whole()->Add(values.begin() + next_, values.begin() + next_ + n);
        }
        *room -= static_cast<std::int64_t>(8 * n);
        next_ += n;
        return next_ == values.size();
      },
      column.values);
}

bool AnalysisParts::Next(v1::AnalyzeResponse* part) {
  const std::size_t sections = 3 + analysis_.columns.size();
  if (section_ == sections) return false;
  std::int64_t room = part_bytes_;
  while (section_ < sections && room > 0) {
    const bool whole = section_ == 0 ? AddNames(analysis_.items, part->mutable_item_names(), &room)
                       : section_ == 1
                           ? AddNames(analysis_.annotators, part->mutable_annotator_names(), &room)
                       : section_ == 2 ? AddNames(analysis_.classes, part->mutable_classes(), &room)
                                       : AddColumn(analysis_.columns[section_ - 3], part, &room);
    if (!whole) break;
    ++section_;
    next_ = 0;
  }
  return true;
}

}  // namespace softloss
