// The C++ client of AnnotationQuality: votes go up, what they say about people and items comes back.
//
//   auto client = softloss::QualityClient::Connect("unix:/run/softloss.sock");
//   client->OpenCampaign("birds", {.classes = {"bunting", "grosbeak"}});
//   client->FeedVotes("birds", {.item = {"photo1"}, .annotator = {"ann"}, .class_id = {1}});
//   absl::StatusOr<softloss::QualityAnalysis> analysis = client->Analyze("birds", {});
//
// Errors are absl::Status, as those of softloss/client.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class ChannelCredentials;
}

namespace softloss {

struct QualityClientOptions {
  absl::Duration connect_timeout = absl::Seconds(10);
  // Calls that fail because the server is away are made again: feeding is idempotent. So often in
  // all; the pause before the second try doubles with each, up to max_backoff.
  int max_attempts = 10;
  absl::Duration initial_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
  // Null: plaintext, for loopback and Unix sockets.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
};

// What softloss/v1/quality.proto says of the message of that name.
struct CampaignSpec {
  std::vector<std::string> classes;
  int close_after_votes = 0;
  double close_after_seconds = 0;
};

struct CampaignInfo {
  std::string name;
  CampaignSpec spec;
  std::int64_t items = 0, closed_items = 0, annotators = 0, votes = 0, predictions = 0, gold = 0;
};

// Columns of n rows; either class_id [n] or probability [n, K]. weight, time and vote_id may be empty.
struct VoteBatch {
  std::vector<std::string> item, annotator;
  std::vector<std::int32_t> class_id;
  std::vector<double> probability, weight, time;
  std::vector<std::string> vote_id;
};

// A distribution, or a class, an item.
struct ItemBatch {
  std::vector<std::string> item;
  std::vector<std::int32_t> class_id;
  std::vector<double> probability;
};

struct FeedReport {
  std::int64_t accepted = 0, duplicates = 0, superseded = 0;
  struct RowError {
    std::int64_t row;
    absl::Status status;
  };
  std::vector<RowError> errors;  // rows that were refused; the others are stored
};

struct QualityRequest {
  bool all_items = false;              // not only closed ones
  int method = 0;                      // of softloss.v1.ConsensusMethod
  bool calibrate_predictions = false;  // scale them by the temperature that fits the votes best
  std::vector<double> class_values;
  std::optional<int> bootstrap_replicates, worklist_items, drift_windows;
  std::optional<double> min_agreement, min_votes, spammer_score, collapse_share, collapse_excess;
  std::vector<std::string> columns;  // prefixes of names; empty: all
};

struct QualityAnalysis {
  std::vector<std::string> items, annotators, classes;
  struct Column {
    std::string name;
    std::vector<std::int64_t> shape;
    std::variant<std::vector<double>, std::vector<std::int64_t>> values;  // row-major
  };
  std::vector<Column> columns;  // docs/quality.md lists them
};

// A handle; copies share the connection. Thread-safe; calls block.
class QualityClient {
 public:
  // UNAVAILABLE if nobody answers within connect_timeout.
  static absl::StatusOr<QualityClient> Connect(const std::string& address,
                                               const QualityClientOptions& options = {});

  absl::StatusOr<CampaignInfo> OpenCampaign(const std::string& name,
                                            const CampaignSpec& spec) const;
  absl::StatusOr<std::vector<CampaignInfo>> ListCampaigns() const;
  absl::Status DeleteCampaign(const std::string& name) const;

  // Durable when they return. Sent in messages of at most a megabyte or so, several under way. After
  // an error some may have been stored: feed it all again.
  absl::StatusOr<FeedReport> FeedVotes(const std::string& campaign, const VoteBatch& votes) const;
  absl::StatusOr<FeedReport> FeedPredictions(const std::string& campaign,
                                             const ItemBatch& predictions) const;
  absl::StatusOr<FeedReport> FeedGold(const std::string& campaign, const ItemBatch& gold) const;

  // All that have a vote, if `items` is empty. Returns how many were closed.
  absl::StatusOr<std::int64_t> CloseItems(const std::string& campaign,
                                          const std::vector<std::string>& items) const;
  absl::StatusOr<QualityAnalysis> Analyze(const std::string& campaign,
                                          const QualityRequest& request) const;

 private:
  struct Impl;
  explicit QualityClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace softloss
