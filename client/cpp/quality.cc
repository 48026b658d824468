#include "softloss/quality.h"

#include <algorithm>
#include <thread>
#include <type_traits>
#include <utility>

#include <grpcpp/client_context.h>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/error.h"
#include "client/cpp/lane.h"
#include "softloss/v1/quality.grpc.pb.h"

namespace softloss {
namespace {

// Of a Feed message: small enough for any server.
constexpr std::int64_t kMessageBytes = std::int64_t{1} << 20;

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return internal::MakeError(static_cast<absl::StatusCode>(status.error_code()),
                             status.error_message(),
                             status.error_code() == grpc::StatusCode::UNAVAILABLE);
}

template <typename T>
void AddRange(const std::vector<T>& from, std::int64_t begin, std::int64_t end, auto* to) {
  if (!from.empty()) to->Add(from.begin() + begin, from.begin() + end);
}

CampaignInfo FromProto(const v1::Campaign& c) {
  return {.name = c.name(),
          .spec = {.classes = {c.options().classes().begin(), c.options().classes().end()},
                   .close_after_votes = c.options().close_after_votes(),
                   .close_after_seconds = c.options().close_after_seconds()},
          .items = c.items(),
          .closed_items = c.closed_items(),
          .annotators = c.annotators(),
          .votes = c.votes(),
          .predictions = c.predictions(),
          .gold = c.gold()};
}

// Appends a part of a column to the column that it continues, or begins the next.
void AddPart(const v1::Column& part, std::vector<QualityAnalysis::Column>* columns) {
  if (columns->empty() || columns->back().name != part.name()) {
    columns->push_back({part.name(), {part.shape().begin(), part.shape().end()}, {}});
    if (part.whole_size() > 0) columns->back().values = std::vector<std::int64_t>();
  }
  auto& values = columns->back().values;
  if (auto* whole = std::get_if<std::vector<std::int64_t>>(&values)) {
    whole->insert(whole->end(), part.whole().begin(), part.whole().end());
  } else {
    auto& real = std::get<std::vector<double>>(values);
    real.insert(real.end(), part.real().begin(), part.real().end());
  }
}

// Rows [begin, end) of a batch as a message, and about how many bytes a row takes.
struct FeedRows {
  std::int64_t rows = 0;
  absl::FunctionRef<void(std::int64_t begin, std::int64_t end, v1::FeedRequest*)> fill;
  absl::FunctionRef<std::int64_t(std::int64_t row)> bytes;
};

}  // namespace

struct QualityClient::Impl {
  QualityClientOptions options;
  std::unique_ptr<v1::AnnotationQuality::Stub> stub;

  // Makes a call until it succeeds, fails for good, or has been made often enough.
  absl::Status Retry(absl::FunctionRef<absl::Status()> call) const {
    absl::Duration pause = options.initial_backoff;
    for (int attempt = 1;; ++attempt) {
      absl::Status status = call();
      if (!absl::IsUnavailable(status) || attempt >= options.max_attempts) return status;
      std::this_thread::sleep_for(absl::ToChronoNanoseconds(pause));
      pause = std::min(pause * 2, options.max_backoff);
    }
  }

  absl::StatusOr<FeedReport> Feed(const std::string& campaign, const FeedRows& rows) const;
  // Sends rows from `*done` on, and advances it with each answer.
  absl::Status FeedOnce(const std::string& campaign, const FeedRows& rows, std::int64_t* done,
                        FeedReport* report) const;
};

absl::StatusOr<QualityClient> QualityClient::Connect(const std::string& address,
                                                     const QualityClientOptions& options) {
  ClientOptions channel_options;
  channel_options.credentials = options.credentials;
  const std::shared_ptr<grpc::Channel> channel = internal::MakeChannel(address, channel_options);
  const auto deadline =
      std::chrono::system_clock::now() +
      absl::ToChronoNanoseconds(std::min(options.connect_timeout, absl::Hours(24)));
  if (!channel->WaitForConnected(deadline)) {
    return internal::MakeError(absl::StatusCode::kUnavailable,
                               absl::StrCat("cannot connect to ", address), true);
  }
  auto impl = std::make_shared<Impl>();
  impl->options = options;
  impl->stub = v1::AnnotationQuality::NewStub(channel);
  return QualityClient(std::move(impl));
}

absl::StatusOr<CampaignInfo> QualityClient::OpenCampaign(const std::string& name,
                                                         const CampaignSpec& spec) const {
  v1::OpenCampaignRequest request;
  request.set_name(name);
  for (const std::string& c : spec.classes) request.mutable_options()->add_classes(c);
  request.mutable_options()->set_close_after_votes(spec.close_after_votes);
  request.mutable_options()->set_close_after_seconds(spec.close_after_seconds);
  v1::Campaign response;
  const absl::Status status = impl_->Retry([&] {
    grpc::ClientContext context;
    return FromGrpc(impl_->stub->OpenCampaign(&context, request, &response));
  });
  if (!status.ok()) return status;
  return FromProto(response);
}

absl::StatusOr<std::vector<CampaignInfo>> QualityClient::ListCampaigns() const {
  v1::ListCampaignsResponse response;
  const absl::Status status = impl_->Retry([&] {
    grpc::ClientContext context;
    return FromGrpc(impl_->stub->ListCampaigns(&context, {}, &response));
  });
  if (!status.ok()) return status;
  std::vector<CampaignInfo> out;
  for (const v1::Campaign& campaign : response.campaigns()) out.push_back(FromProto(campaign));
  return out;
}

absl::Status QualityClient::DeleteCampaign(const std::string& name) const {
  v1::DeleteCampaignRequest request;
  request.set_name(name);
  bool tried = false;
  return impl_->Retry([&] {
    grpc::ClientContext context;
    v1::DeleteCampaignResponse response;
    absl::Status status = FromGrpc(impl_->stub->DeleteCampaign(&context, request, &response));
    // A first try whose answer was lost may have deleted it.
    if (std::exchange(tried, true) && absl::IsNotFound(status)) return absl::OkStatus();
    return status;
  });
}

absl::Status QualityClient::Impl::FeedOnce(const std::string& campaign, const FeedRows& rows,
                                           std::int64_t* done, FeedReport* report) const {
  grpc::ClientContext context;
  const auto stream = stub->Feed(&context);
  // One message ahead: the server stores one while the next is on its way.
  struct Sent {
    std::int64_t begin, end;
  };
  std::vector<Sent> sent;
  absl::Status refused;
  const auto read = [&] {
    v1::FeedResponse response;
    if (!stream->Read(&response)) return false;
    if (response.has_error()) {
      refused = internal::MakeError(static_cast<absl::StatusCode>(response.error().code()),
                                    response.error().message(), false);
      return false;
    }
    report->accepted += response.accepted();
    report->duplicates += response.duplicates();
    report->superseded += response.superseded();
    for (const v1::RowError& error : response.row_errors()) {
      report->errors.push_back({sent.front().begin + error.row(),
                                internal::MakeError(static_cast<absl::StatusCode>(error.code()),
                                                    error.message(), false)});
    }
    *done = sent.front().end;
    sent.erase(sent.begin());
    return true;
  };
  std::int64_t next = *done;
  bool going = true;
  while (going && next < rows.rows) {
    std::int64_t end = next, bytes = 0;
    while (end < rows.rows && (end == next || bytes < kMessageBytes)) bytes += rows.bytes(end++);
    v1::FeedRequest request;
    request.set_campaign(campaign);
    rows.fill(next, end, &request);
    going = stream->Write(request);
    if (going) sent.push_back({std::exchange(next, end), end});
    while (going && sent.size() > 1) going = read();
  }
  while (going && !sent.empty()) going = read();
  if (refused.ok()) {
    stream->WritesDone();
  } else {
    context.TryCancel();
  }
  v1::FeedResponse rest;
  while (stream->Read(&rest)) {
  }
  const absl::Status end = FromGrpc(stream->Finish());
  if (!refused.ok()) return refused;
  if (*done == rows.rows) return absl::OkStatus();
  return end.ok() ? internal::MakeError(absl::StatusCode::kUnavailable,
                                        "the server ended the stream early", true)
                  : end;
}

absl::StatusOr<FeedReport> QualityClient::Impl::Feed(const std::string& campaign,
                                                     const FeedRows& rows) const {
  FeedReport report;
  std::int64_t done = 0;
  const absl::Status status = Retry([&] { return FeedOnce(campaign, rows, &done, &report); });
  if (!status.ok()) return status;
  return report;
}

absl::StatusOr<FeedReport> QualityClient::FeedVotes(const std::string& campaign,
                                                    const VoteBatch& b) const {
  const auto n = static_cast<std::int64_t>(b.item.size());
  const auto classes = static_cast<std::int64_t>(n == 0 ? 0 : b.probability.size() / b.item.size());
  for (const auto& [column, length] :
       {std::pair{"annotator", b.annotator.size()},
        std::pair{"class_id", b.class_id.empty() ? b.item.size() : b.class_id.size()},
        std::pair{"probability", b.probability.size() - classes * n + b.item.size()},
        std::pair{"weight", b.weight.empty() ? b.item.size() : b.weight.size()},
        std::pair{"time", b.time.empty() ? b.item.size() : b.time.size()},
        std::pair{"vote_id", b.vote_id.empty() ? b.item.size() : b.vote_id.size()}}) {
    if (length != b.item.size()) {
      return internal::FromCheck(absl::InvalidArgumentError(
          absl::StrCat(column, ": must have as many rows as item, ", n)));
    }
  }
  const auto fill = [&](std::int64_t begin, std::int64_t end, v1::FeedRequest* request) {
    v1::Votes* out = request->mutable_votes();
    for (std::int64_t i = begin; i < end; ++i) {
      out->add_item(b.item[i]);
      out->add_annotator(b.annotator[i]);
      if (!b.vote_id.empty()) out->add_vote_id(b.vote_id[i]);
    }
    AddRange(b.class_id, begin, end, out->mutable_class_id());
    AddRange(b.probability, begin * classes, end * classes, out->mutable_probability());
    AddRange(b.weight, begin, end, out->mutable_weight());
    AddRange(b.time, begin, end, out->mutable_time());
  };
  const auto bytes = [&](std::int64_t i) {
    return static_cast<std::int64_t>(b.item[i].size() + b.annotator[i].size() +
                                     (b.vote_id.empty() ? 0 : b.vote_id[i].size())) +
           8 * classes + 32;
  };
  return impl_->Feed(campaign, {n, fill, bytes});
}

namespace {

absl::StatusOr<FeedReport> FeedItems(
    const ItemBatch& b, v1::Distributions* (v1::FeedRequest::*rows_of)(),
    absl::FunctionRef<absl::StatusOr<FeedReport>(const FeedRows&)> feed) {
  const auto n = static_cast<std::int64_t>(b.item.size());
  const auto classes = static_cast<std::int64_t>(n == 0 ? 0 : b.probability.size() / b.item.size());
  if ((!b.class_id.empty() && b.class_id.size() != b.item.size()) ||
      static_cast<std::int64_t>(b.probability.size()) != classes * n) {
    return internal::FromCheck(absl::InvalidArgumentError(
        absl::StrCat("rows: class_id or probability must have as many rows as item, ", n)));
  }
  const auto fill = [&](std::int64_t begin, std::int64_t end, v1::FeedRequest* request) {
    v1::Distributions* out = (request->*rows_of)();
    for (std::int64_t i = begin; i < end; ++i) out->add_item(b.item[i]);
    AddRange(b.class_id, begin, end, out->mutable_class_id());
    AddRange(b.probability, begin * classes, end * classes, out->mutable_probability());
  };
  const auto bytes = [&](std::int64_t i) {
    return static_cast<std::int64_t>(b.item[i].size()) + 8 * classes + 16;
  };
  return feed({n, fill, bytes});
}

}  // namespace

absl::StatusOr<FeedReport> QualityClient::FeedPredictions(const std::string& campaign,
                                                          const ItemBatch& predictions) const {
  return FeedItems(predictions, &v1::FeedRequest::mutable_predictions,
                   [&](const FeedRows& rows) { return impl_->Feed(campaign, rows); });
}

absl::StatusOr<FeedReport> QualityClient::FeedGold(const std::string& campaign,
                                                   const ItemBatch& gold) const {
  return FeedItems(gold, &v1::FeedRequest::mutable_gold,
                   [&](const FeedRows& rows) { return impl_->Feed(campaign, rows); });
}

absl::StatusOr<std::int64_t> QualityClient::CloseItems(
    const std::string& campaign, const std::vector<std::string>& items) const {
  v1::CloseItemsRequest request;
  request.set_campaign(campaign);
  for (const std::string& item : items) request.add_items(item);
  v1::CloseItemsResponse response;
  const absl::Status status = impl_->Retry([&] {
    grpc::ClientContext context;
    return FromGrpc(impl_->stub->CloseItems(&context, request, &response));
  });
  if (!status.ok()) return status;
  return response.closed();
}

absl::StatusOr<QualityAnalysis> QualityClient::Analyze(const std::string& campaign,
                                                       const QualityRequest& r) const {
  v1::AnalyzeRequest request;
  request.set_campaign(campaign);
  request.set_scope(r.all_items ? v1::ALL_ITEMS : v1::CLOSED_ITEMS);
  request.set_method(static_cast<v1::ConsensusMethod>(r.method));
  for (const double value : r.class_values) request.add_class_values(value);
  request.set_calibrate_predictions(r.calibrate_predictions);
  if (r.bootstrap_replicates) request.set_bootstrap_replicates(*r.bootstrap_replicates);
  if (r.worklist_items) request.set_worklist_items(*r.worklist_items);
  if (r.drift_windows) request.set_drift_windows(*r.drift_windows);
  if (r.min_agreement) request.set_min_agreement(*r.min_agreement);
  if (r.min_votes) request.set_min_votes(*r.min_votes);
  if (r.spammer_score) request.set_spammer_score(*r.spammer_score);
  if (r.collapse_share) request.set_collapse_share(*r.collapse_share);
  if (r.collapse_excess) request.set_collapse_excess(*r.collapse_excess);
  for (const std::string& prefix : r.columns) request.add_columns(prefix);
  QualityAnalysis out;
  const absl::Status status = impl_->Retry([&] {
    out = {};
    grpc::ClientContext context;
    const auto stream = impl_->stub->Analyze(&context, request);
    v1::AnalyzeResponse part;
    while (stream->Read(&part)) {
      for (std::string& name : *part.mutable_item_names()) out.items.push_back(std::move(name));
      for (std::string& name : *part.mutable_annotator_names()) {
        out.annotators.push_back(std::move(name));
      }
      for (std::string& name : *part.mutable_classes()) out.classes.push_back(std::move(name));
      for (const v1::Column& column : part.columns()) AddPart(column, &out.columns);
    }
    return FromGrpc(stream->Finish());
  });
  if (!status.ok()) return status;
  return out;
}

}  // namespace softloss
