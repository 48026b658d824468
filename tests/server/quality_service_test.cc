#include "server/quality_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/store/temporary_folder.h"

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class QualityServiceTest : public ::testing::Test {
 protected:
  QualityServiceTest() { Restart(); }

  void Restart(std::int64_t memory_bytes = 1 << 30, int max_campaigns = 2) {
    service_.reset();
    auto made = QualityService::Create(
        {.folder = folder_ / "store", .memory_bytes = memory_bytes, .max_campaigns = max_campaigns},
        &executor_, [this] { return now_; }, &metrics_);
    ASSERT_TRUE(made.ok()) << made.status();
    service_ = *std::move(made);
  }

  absl::StatusOr<v1::Campaign> Open(const std::string& owner, const std::string& name,
                                    double close_after_seconds = 0) {
    v1::OpenCampaignRequest request;
    request.set_name(name);
    request.mutable_options()->add_classes("no");
    request.mutable_options()->add_classes("yes");
    request.mutable_options()->set_close_after_seconds(close_after_seconds);
    return service_->OpenCampaign(owner, request);
  }

  // Three annotators on `items` items; the third always says "no".
  static v1::FeedRequest VotesOn(const std::string& campaign, int items) {
    v1::FeedRequest request;
    request.set_campaign(campaign);
    for (int i = 0; i < items; ++i) {
      for (int r = 0; r < 3; ++r) {
        request.mutable_votes()->add_item("item" + std::to_string(i));
        request.mutable_votes()->add_annotator("ann" + std::to_string(r));
        request.mutable_votes()->add_class_id(r == 2 ? 0 : i % 2);
      }
    }
    return request;
  }

  std::string Error(const v1::FeedRequest& request, const std::string& owner = "lab") {
    return service_->Feed(owner, request).error().message();
  }

  static std::map<std::string, annotation::Column> ByName(const CampaignAnalysis& analysis) {
    std::map<std::string, annotation::Column> out;
    for (const annotation::Column& column : analysis.columns) out.emplace(column.name, column);
    return out;
  }

  TemporaryFolder folder_;
  InlineExecutor executor_;
  Metrics metrics_{{"1", "cpu", "id"}};
  double now_ = 1000;
  std::unique_ptr<QualityService> service_;
};

TEST_F(QualityServiceTest, WhatWasFedIsAnalysed) {
  ASSERT_TRUE(Open("lab", "c").ok());
  const v1::FeedResponse fed = service_->Feed("lab", VotesOn("c", 40));
  EXPECT_EQ(fed.accepted(), 120);
  EXPECT_FALSE(fed.has_error());
  v1::FeedRequest model;
  model.set_campaign("c");
  for (int i = 0; i < 40; ++i) {
    model.mutable_predictions()->add_item("item" + std::to_string(i));
    model.mutable_predictions()->add_probability(i % 2 == 0 ? 0.8 : 0.2);
    model.mutable_predictions()->add_probability(i % 2 == 0 ? 0.2 : 0.8);
  }
  EXPECT_EQ(service_->Feed("lab", model).accepted(), 40);

  v1::AnalyzeRequest request;
  request.set_campaign("c");
  request.set_scope(v1::ALL_ITEMS);
  const auto analysis = service_->Analyze("lab", request);
  ASSERT_TRUE(analysis.ok()) << analysis.status();
  EXPECT_EQ(analysis->items.size(), 40u);
  EXPECT_THAT(analysis->annotators, ElementsAre("ann0", "ann1", "ann2"));
  EXPECT_THAT(analysis->classes, ElementsAre("no", "yes"));
  const auto columns = ByName(*analysis);
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(columns.at("method").values)[0],
            static_cast<int>(annotation::ConsensusMethod::kCrowdlab));
  const auto& model_agreement =
      std::get<std::vector<double>>(columns.at("annotator.agreement_model").values);
  EXPECT_EQ(model_agreement[0], 1);
  EXPECT_EQ(model_agreement[8], 0.5);  // the third one's value

  // The alerts of that analysis are in the metrics.
  std::map<std::string, double> alerts;
  for (const GaugeSample& s : service_->AlertSamples()) alerts[s.labels[2].second] = s.value;
  EXPECT_EQ(alerts["spammer"], 1);
  EXPECT_EQ(alerts["class_collapse"], 1);
  EXPECT_EQ(alerts["drift"], 0);
  EXPECT_THAT(metrics_.Serialize(),
              HasSubstr("softloss_quality_votes_total{outcome=\"accepted\"} 120"));
}

TEST_F(QualityServiceTest, OnlyTheColumnsAskedFor) {
  ASSERT_TRUE(Open("lab", "c").ok());
  service_->Feed("lab", VotesOn("c", 4));
  v1::AnalyzeRequest request;
  request.set_campaign("c");
  request.set_scope(v1::ALL_ITEMS);
  request.add_columns("alert.");
  request.add_columns("item.consensus");
  const auto analysis = service_->Analyze("lab", request);
  ASSERT_TRUE(analysis.ok());
  EXPECT_EQ(analysis->columns.size(), 5u);
}

TEST_F(QualityServiceTest, OnlyClosedItemsUnlessAllAreAskedFor) {
  ASSERT_TRUE(Open("lab", "c", 60).ok());
  service_->Feed("lab", VotesOn("c", 4));
  v1::AnalyzeRequest request;
  request.set_campaign("c");
  const absl::Status none = service_->Analyze("lab", request).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.message()), HasSubstr("0 are closed and 4 are open"));

  v1::CloseItemsRequest close;
  close.set_campaign("c");
  close.add_items("item2");
  EXPECT_EQ(service_->CloseItems("lab", close)->closed(), 1);
  EXPECT_THAT(service_->Analyze("lab", request)->items, ElementsAre("item2"));
  now_ += 60;  // the rest closes by time
  EXPECT_EQ(service_->Analyze("lab", request)->items.size(), 4u);
  EXPECT_EQ(service_->ListCampaigns("lab", {})->campaigns(0).closed_items(), 4);
}

TEST_F(QualityServiceTest, OwnersDoNotSeeEachOther) {
  ASSERT_TRUE(Open("lab", "c").ok());
  EXPECT_EQ(Error(VotesOn("c", 1), "vendor"), "campaign: there is no \"c\"");
  EXPECT_EQ(service_->ListCampaigns("vendor", {})->campaigns_size(), 0);
  v1::DeleteCampaignRequest request;
  request.set_name("c");
  EXPECT_EQ(service_->DeleteCampaign("vendor", request).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(service_->DeleteCampaign("lab", request).ok());
  EXPECT_EQ(Error(VotesOn("c", 1)), "campaign: there is no \"c\"");
}

TEST_F(QualityServiceTest, LimitsAreNamed) {
  ASSERT_TRUE(Open("lab", "a").ok());
  ASSERT_TRUE(Open("lab", "b").ok());
  EXPECT_EQ(Open("lab", "c").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Open("lab", "a", 5).status().code(), absl::StatusCode::kFailedPrecondition);
  service_->Feed("lab", VotesOn("a", 100));
  Restart(1000);
  v1::AnalyzeRequest request;
  request.set_campaign("a");
  request.set_scope(v1::ALL_ITEMS);
  EXPECT_EQ(service_->Analyze("lab", request).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(QualityServiceTest, BadRequestsAreNamed) {
  ASSERT_TRUE(Open("lab", "c").ok());
  v1::FeedRequest request;
  request.set_campaign("c");
  EXPECT_EQ(Error(request), "rows: give votes, predictions or gold; none is there");
  request = VotesOn("c", 2);
  request.mutable_votes()->add_annotator("one too many");
  EXPECT_EQ(Error(request), "annotator: must have a value a row (6); has 7");
  request = VotesOn("c", 2);
  request.mutable_votes()->add_probability(1);
  EXPECT_EQ(Error(request), "rows: give either class_id or probability");
  request.mutable_votes()->clear_class_id();
  EXPECT_EQ(Error(request), "probability: must have 2 values a row (6 rows); has 1");
  request = VotesOn("c", 2);
  request.mutable_votes()->add_time(1);
  EXPECT_EQ(Error(request), "time: must have a value a row (6); has 1");
  request = {};
  request.set_campaign("c");
  request.mutable_gold()->add_item("x");
  request.mutable_gold()->add_class_id(2);
  EXPECT_EQ(Error(request), "class_id[0]: must be from 0 to 1; was 2");
  // A bad row among good ones.
  request = VotesOn("c", 1);
  request.mutable_votes()->set_class_id(1, 9);
  const v1::FeedResponse response = service_->Feed("lab", request);
  EXPECT_EQ(response.accepted(), 2);
  ASSERT_EQ(response.row_errors_size(), 1);
  EXPECT_EQ(response.row_errors(0).row(), 1);
  EXPECT_EQ(response.row_errors(0).message(), "label: must be from 0 to 1; was 9");
}

std::ptrdiff_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

TEST_F(QualityServiceTest, ManyCampaignsTakeFewFiles) {
  constexpr int kCampaigns = 40;
  Restart(1 << 30, kCampaigns);
  const std::ptrdiff_t before = OpenDescriptors();
  const auto name = [](int c) { return "campaign" + std::to_string(c); };
  for (int c = 0; c < kCampaigns; ++c) ASSERT_TRUE(Open("lab", name(c)).ok());
  for (int round = 1; round <= 2; ++round) {
    for (int c = 0; c < kCampaigns; ++c) {
      const v1::FeedResponse fed = service_->Feed("lab", VotesOn(name(c), round));
      EXPECT_EQ(fed.accepted(), 3) << fed.ShortDebugString();  // the first item's are there already
      EXPECT_LE(OpenDescriptors() - before, 100);
    }
  }
  Restart(1 << 30, kCampaigns);
  EXPECT_LE(OpenDescriptors() - before, 100);
  const auto list = service_->ListCampaigns("lab", {});
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->campaigns_size(), kCampaigns);
  for (const v1::Campaign& campaign : list->campaigns()) EXPECT_EQ(campaign.votes(), 6);
}

TEST_F(QualityServiceTest, WhatIsDeletedDoesNotComeBack) {
  ASSERT_TRUE(Open("lab", "c").ok());
  ASSERT_EQ(service_->Feed("lab", VotesOn("c", 2)).accepted(), 6);
  v1::DeleteCampaignRequest request;
  request.set_name("c");
  ASSERT_TRUE(service_->DeleteCampaign("lab", request).ok());
  EXPECT_THAT(Error(VotesOn("c", 1)), HasSubstr("there is no \"c\""));
  EXPECT_EQ(service_->DeleteCampaign("lab", request).status().code(), absl::StatusCode::kNotFound);
  const auto again = Open("lab", "c");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->votes(), 0);
}

TEST_F(QualityServiceTest, AlertsAreRefreshedForWhatChanged) {
  ASSERT_TRUE(Open("lab", "c").ok());
  service_->Feed("lab", VotesOn("c", 40));
  EXPECT_TRUE(service_->AlertSamples().empty());
  service_->RefreshAlerts();
  double alerts = 0;
  for (const GaugeSample& s : service_->AlertSamples()) alerts += s.value;
  EXPECT_EQ(alerts, 2);
  // They survive neither restart nor deletion, but are found again.
  Restart();
  EXPECT_TRUE(service_->AlertSamples().empty());
  EXPECT_EQ(service_->ItemSamples()[0].value, 40);
  service_->RefreshAlerts();
  EXPECT_FALSE(service_->AlertSamples().empty());
}

TEST_F(QualityServiceTest, ManyFeedersAtOnceEndWithTheSameSet) {
  ASSERT_TRUE(Open("lab", "many").ok());
  ASSERT_TRUE(Open("lab", "one").ok());
  const v1::FeedRequest all = VotesOn("many", 64);
  std::vector<std::thread> feeders;
  for (int f = 0; f < 8; ++f) {
    feeders.emplace_back([&, f] {
      // Each feeds its share twice, in small messages.
      for (int round = 0; round < 2; ++round) {
        for (int v = f; v < all.votes().item_size(); v += 8) {
          v1::FeedRequest part;
          part.set_campaign("many");
          part.mutable_votes()->add_item(all.votes().item(v));
          part.mutable_votes()->add_annotator(all.votes().annotator(v));
          part.mutable_votes()->add_class_id(all.votes().class_id(v));
          const v1::FeedResponse r = service_->Feed("lab", part);
          EXPECT_EQ(round == 0 ? r.accepted() : r.duplicates(), 1);
        }
      }
    });
  }
  for (std::thread& feeder : feeders) feeder.join();
  service_->Feed("lab", VotesOn("one", 64));
  v1::AnalyzeRequest request;
  request.set_scope(v1::ALL_ITEMS);
  request.set_campaign("many");
  const auto many = service_->Analyze("lab", request);
  request.set_campaign("one");
  const auto one = service_->Analyze("lab", request);
  ASSERT_TRUE(many.ok() && one.ok());
  ASSERT_EQ(many->columns.size(), one->columns.size());
  for (std::size_t c = 0; c < one->columns.size(); ++c) {
    std::visit(
        [&](const auto& values) {
          const auto& others = std::get<std::decay_t<decltype(values)>>(many->columns[c].values);
          ASSERT_EQ(values.size(), others.size());
          EXPECT_EQ(std::memcmp(values.data(), others.data(), values.size() * 8), 0)
              << one->columns[c].name;
        },
        one->columns[c].values);
  }
}

TEST(AnalysisPartsTest, TellsEverythingOnceInSmallParts) {
  CampaignAnalysis analysis;
  for (int i = 0; i < 100; ++i) analysis.items.push_back("item" + std::to_string(i));
  analysis.annotators = {"a", "b"};
  analysis.classes = {"no", "yes"};
  std::vector<double> real;
  std::vector<std::int64_t> whole;
  for (int i = 0; i < 300; ++i) {
    real.push_back(i / 7.0);
    whole.push_back(i);
  }
  analysis.columns = {
      {"x", {100, 3}, real}, {"none", {0}, std::vector<double>()}, {"n", {300}, whole}};
  AnalysisParts parts(analysis, 256);
  std::vector<std::string> items;
  std::map<std::string, std::vector<double>> values;
  v1::AnalyzeResponse part;
  int messages = 0;
  for (; parts.Next(&part); part.Clear(), ++messages) {
    EXPECT_LT(part.ByteSizeLong(), 600u);
    items.insert(items.end(), part.item_names().begin(), part.item_names().end());
    for (const v1::Column& c : part.columns()) {
      std::vector<double>& to = values[c.name()];
      to.insert(to.end(), c.real().begin(), c.real().end());
      to.insert(to.end(), c.whole().begin(), c.whole().end());
    }
  }
  EXPECT_GT(messages, 10);
  EXPECT_EQ(items, analysis.items);
  EXPECT_EQ(values["x"], real);
  EXPECT_TRUE(values.contains("none"));
  EXPECT_EQ(values["n"], std::vector<double>(whole.begin(), whole.end()));
}

}  // namespace
}  // namespace softloss
