// AnnotationQuality over real connections.
#include "softloss/v1/quality.grpc.pb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/server/server_fixture.h"
#include "tests/store/temporary_folder.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;

v1::FeedRequest OneVote(const std::string& campaign, const std::string& item) {
  v1::FeedRequest request;
  request.set_campaign(campaign);
  request.mutable_votes()->add_item(item);
  request.mutable_votes()->add_annotator("amy");
  request.mutable_votes()->add_class_id(1);
  return request;
}

class QualityCallsTest : public ServerTest {
 protected:
  using FeedStream = grpc::ClientReaderWriter<v1::FeedRequest, v1::FeedResponse>;

  ServerOptions Options() const override {
    ServerOptions options = ServerTest::Options();
    options.quality_dir = folder_ / "store";
    options.quality_alert_interval_s = 0;
    options.io_threads = 1;
    options.drain_timeout_s = 20;
    return options;
  }
  void SetUp() override {
    ServerTest::SetUp();
    quality_ = v1::AnnotationQuality::NewStub(channel_);
  }

  grpc::Status OpenCampaign(const std::string& name) {
    grpc::ClientContext context;
    v1::OpenCampaignRequest request;
    request.set_name(name);
    request.mutable_options()->add_classes("no");
    request.mutable_options()->add_classes("yes");
    v1::Campaign campaign;
    return quality_->OpenCampaign(&context, request, &campaign);
  }

  TemporaryFolder folder_;
  std::unique_ptr<v1::AnnotationQuality::Stub> quality_;
};

TEST_F(QualityCallsTest, ABadRequestDoesNotEndTheStream) {
  ASSERT_TRUE(OpenCampaign("c").ok());
  grpc::ClientContext context;
  const auto stream = quality_->Feed(&context);
  v1::FeedResponse response;
  ASSERT_TRUE(stream->Write(OneVote("c", "a")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.accepted(), 1);
  ASSERT_TRUE(stream->Write(OneVote("unknown", "a")));
  ASSERT_TRUE(stream->Write(OneVote("c", "b")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().code(), grpc::StatusCode::NOT_FOUND);
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_FALSE(response.has_error());
  EXPECT_EQ(response.accepted(), 1);
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(QualityCallsTest, WhatIsOnItsWayAtShutdownIsStoredAndTheRestIsTold) {
  ASSERT_TRUE(OpenCampaign("c").ok());
  grpc::ClientContext context;
  const auto stream = quality_->Feed(&context);
  v1::FeedResponse response;
  ASSERT_TRUE(stream->Write(OneVote("c", "a")));
  ASSERT_TRUE(stream->Read(&response));
  // Served by the same thread, so afterwards the server waits for the stream's next message.
  grpc::ClientContext listing;
  v1::ListCampaignsResponse before;
  ASSERT_TRUE(quality_->ListCampaigns(&listing, {}, &before).ok());
  // The client leaves the stream open: the server must not wait for it.
  EXPECT_TRUE(server_->Shutdown());
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);

  Start(Options());
  quality_ = v1::AnnotationQuality::NewStub(channel_);
  grpc::ClientContext again;
  v1::ListCampaignsResponse campaigns;
  ASSERT_TRUE(quality_->ListCampaigns(&again, {}, &campaigns).ok());
  EXPECT_EQ(campaigns.campaigns(0).votes(), 1);
}

TEST_F(QualityCallsTest, ClientsThatGoAwayHurtNobody) {
  ASSERT_TRUE(OpenCampaign("c").ok());
  for (int i = 0; i < 8; ++i) {
    grpc::ClientContext context;
    const auto stream = quality_->Feed(&context);
    stream->Write(OneVote("c", std::to_string(i)));
    if (i % 2 == 0) context.TryCancel();
    v1::FeedResponse response;
    if (i % 2 == 1) {
      EXPECT_TRUE(stream->Read(&response));
      context.TryCancel();
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);

    grpc::ClientContext analyzing;
    v1::AnalyzeRequest request;
    request.set_campaign("c");
    request.set_scope(v1::ALL_ITEMS);
    const auto analysis = quality_->Analyze(&analyzing, request);
    analyzing.TryCancel();
    EXPECT_EQ(analysis->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  grpc::ClientContext context;
  v1::ListCampaignsResponse campaigns;
  ASSERT_TRUE(quality_->ListCampaigns(&context, {}, &campaigns).ok());
  EXPECT_GE(campaigns.campaigns(0).votes(), 4);  // those that were answered
}

TEST_F(QualityCallsTest, AnalysesComeInPartsThatAnyClientTakes) {
  ASSERT_TRUE(OpenCampaign("c").ok());
  grpc::ClientContext feeding;
  const auto stream = quality_->Feed(&feeding);
  constexpr int kItems = 12000;
  v1::FeedRequest request;
  request.set_campaign("c");
  for (int i = 0; i < kItems; ++i) {
    request.mutable_votes()->add_item("item" + std::to_string(i));
    request.mutable_votes()->add_annotator("amy");
    request.mutable_votes()->add_class_id(i % 2);
  }
  ASSERT_TRUE(stream->Write(request));
  v1::FeedResponse response;
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_EQ(response.accepted(), kItems);
  stream->WritesDone();
  ASSERT_TRUE(stream->Finish().ok());

  grpc::ClientContext context;
  v1::AnalyzeRequest ask;
  ask.set_campaign("c");
  ask.set_scope(v1::ALL_ITEMS);
  ask.set_worklist_items(10);
  const auto analysis = quality_->Analyze(&context, ask);
  v1::AnalyzeResponse part;
  std::int64_t parts = 0, names = 0, votes = 0;
  while (analysis->Read(&part)) {
    ++parts;
    names += part.item_names_size();
    for (const v1::Column& column : part.columns()) {
      if (column.name() != "item.votes") continue;
      for (const std::int64_t n : column.whole()) votes += n;
    }
  }
  EXPECT_TRUE(analysis->Finish().ok());
  EXPECT_GT(parts, 1);
  EXPECT_EQ(names, kItems);
  EXPECT_EQ(votes, kItems);
}

TEST_F(ServerTest, WithoutAFolderThereAreNoCampaigns) {
  const auto quality = v1::AnnotationQuality::NewStub(channel_);
  grpc::ClientContext context;
  v1::ListCampaignsResponse response;
  const grpc::Status status = quality->ListCampaigns(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("without --quality_dir"));
  grpc::ClientContext feeding;
  const auto stream = quality->Feed(&feeding);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace softloss
