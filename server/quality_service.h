// AnnotationQuality without its transport: campaigns, fed and analysed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/annotation/analysis.h"
#include "kernels/annotation/analysis_columns.h"
#include "kernels/executor.h"
#include "server/metrics.h"
#include "softloss/v1/quality.pb.h"
#include "store/catalogue.h"

namespace softloss {

// What an Analyze call sends.
struct CampaignAnalysis {
  std::vector<std::string> items, annotators, classes;
  std::vector<annotation::Column> columns;
};

// Campaigns belong to owners (tenants), who do not see each other's. Thread-safe: a campaign's changes
// queue up behind one another, and analyses read beside them. Calls block on the disk.
class QualityService {
 public:
  struct Options {
    std::string folder;
    std::int64_t memory_bytes = 0;   // of one analysis
    std::int64_t max_campaigns = 0;  // an owner
  };
  // `executor` runs analyses; `now` gives seconds since the epoch.
  static absl::StatusOr<std::unique_ptr<QualityService>> Create(const Options& options,
                                                                Executor* executor,
                                                                std::function<double()> now,
                                                                Metrics* metrics);

  absl::StatusOr<v1::Campaign> OpenCampaign(std::string_view owner,
                                            const v1::OpenCampaignRequest& request);
  absl::StatusOr<v1::ListCampaignsResponse> ListCampaigns(std::string_view owner,
                                                          const v1::ListCampaignsRequest& request);
  absl::StatusOr<v1::DeleteCampaignResponse> DeleteCampaign(
      std::string_view owner, const v1::DeleteCampaignRequest& request);
  absl::StatusOr<v1::CloseItemsResponse> CloseItems(std::string_view owner,
                                                    const v1::CloseItemsRequest& request);
  // Errors are in the response.
  v1::FeedResponse Feed(std::string_view owner, const v1::FeedRequest& request);
  absl::StatusOr<CampaignAnalysis> Analyze(std::string_view owner,
                                           const v1::AnalyzeRequest& request);

  // Analyses all items of the campaigns that have changed since they were last analysed, for the
  // alerts that the metrics show. Returns at once while another thread does.
  void RefreshAlerts();

  // softloss_quality_items and softloss_quality_alerts.
  std::vector<GaugeSample> ItemSamples();
  std::vector<GaugeSample> AlertSamples();

 private:
  // A campaign: its writer while it is in use, and what the metrics show of it.
  struct Open {
    Catalogue::Entry entry;
    std::string path;
    std::mutex writing;
    std::optional<Campaign> campaign;  // guarded by writing, as the next; Use() opens it
    bool deleted = false;
    std::atomic<std::int64_t> open_items{0}, closed_items{0};
    std::atomic<bool> changed{true};  // since the last analysis of all items
    std::mutex alerts_mutex;
    std::vector<std::int64_t> alerts;  // by AlertKind; empty before the first analysis
    Open(Catalogue::Entry e, std::string p) : entry(std::move(e)), path(std::move(p)) {}
  };

  QualityService(const Options& options, Catalogue catalogue, Executor* executor,
                 std::function<double()> now, Metrics* metrics)
      : options_(options),
        executor_(executor),
        now_(std::move(now)),
        metrics_(metrics),
        catalogue_(std::move(catalogue)) {}

  using Key = std::pair<std::string, std::string>;  // owner, name

  absl::StatusOr<std::shared_ptr<Open>> Find(std::string_view owner, const std::string& name);
  // With mutex_ held.
  std::shared_ptr<Open> OpenEntry(const Catalogue::Entry& entry);
  // Opens the file of a campaign whose `writing` is held, and closes that of another, the one that was
  // used longest ago, where more than kMostFiles are open.
  absl::Status Use(const std::shared_ptr<Open>& open);
  absl::StatusOr<v1::Campaign> Describe(const std::shared_ptr<Open>& open);  // takes open->writing
  // Counts what there is after a change. With open.writing held.
  absl::StatusOr<CampaignCounts> Count(Open& open);
  absl::StatusOr<FeedResult> Store(Open& open, const v1::FeedRequest& request);
  absl::StatusOr<CampaignAnalysis> AnalyzeOpen(const std::shared_ptr<Open>& open,
                                               const v1::AnalyzeRequest& request);

  const Options options_;
  Executor* const executor_;
  const std::function<double()> now_;
  Metrics* const metrics_;
  std::atomic<bool> refreshing_{false};
  std::mutex mutex_;  // the two below; may be taken with an Open's `writing` held, not before it
  Catalogue catalogue_;
  std::map<Key, std::shared_ptr<Open>> open_;  // all there are

  // A campaign's file takes some 8 MiB of cache and three descriptors.
  static constexpr std::size_t kMostFiles = 32;
  std::mutex files_mutex_;                       // taken with an Open's `writing` held
  std::list<std::shared_ptr<Open>> with_files_;  // by use, the latest first
};

// Cuts an analysis into messages.
class AnalysisParts {
 public:
  // About so many bytes a message; names and columns' rows are not cut.
  AnalysisParts(CampaignAnalysis analysis, std::int64_t part_bytes)
      : analysis_(std::move(analysis)), part_bytes_(part_bytes) {}
  // False once all is told.
  bool Next(v1::AnalyzeResponse* part);

 private:
  bool AddNames(const std::vector<std::string>& names,
                google::protobuf::RepeatedPtrField<std::string>* to, std::int64_t* room);
  bool AddColumn(const annotation::Column& column, v1::AnalyzeResponse* part, std::int64_t* room);

  const CampaignAnalysis analysis_;
  const std::int64_t part_bytes_;
  std::size_t section_ = 0;  // items, annotators, classes, then a section a column
  std::size_t next_ = 0;     // within it
};

}  // namespace softloss
