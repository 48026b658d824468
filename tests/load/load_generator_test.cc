#include "client/load/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/client/client_fixture.h"

namespace softloss::load {
namespace {

using testing::FakeScorer;
using testing::FakeStream;
using ::testing::HasSubstr;
using testing::IsOk;

// Against a server of few lines that scores right, or does what a test says.
class LoadGeneratorTest : public testing::ClientTest {
 protected:
  absl::StatusOr<LoadResult> Run(const LoadOptions& options, const Progress& progress = nullptr) {
    items_.clear();
    for (const std::int64_t rows : {3, 40}) {
      ItemKind kind;
      kind.name = absl::StrCat(rows, " rows");
      kind.spec.loss = Loss::kSoftmaxCrossEntropy;
      kind.item.shape = {rows, 10};
      kind.item.class_axis = 1;
      kind.item.gradient = DType::kF32;
      auto item = PreparedItem::Create(kind, 1);
      if (!item.ok()) return item.status();
      items_.push_back(*std::move(item));
    }
    return RunLoad(*client_, items_, {3.0, 1.0}, options, 1, progress);
  }
  static LoadOptions Short(ArrivalKind arrivals, double rate = 0) {
    LoadOptions options;
    options.arrivals = arrivals;
    options.rate = rate;
    options.in_flight = 4;
    options.warmup = absl::Milliseconds(20);
    options.duration = absl::Milliseconds(200);
    return options;
  }

  std::vector<std::unique_ptr<PreparedItem>> items_;
};

TEST_F(LoadGeneratorTest, CountsWhatTheServerAnswers) {
  StartServer();
  Connect();
  for (const ArrivalKind arrivals :
       {ArrivalKind::kClosed, ArrivalKind::kUniform, ArrivalKind::kPoisson}) {
    std::int64_t told = 0;
    const auto result = Run(Short(arrivals, 500), [&](double, std::int64_t completed) {
      told = completed;
      return true;
    });
    ASSERT_THAT(result.status(), IsOk());
    std::int64_t sent = 0;
    for (const KindResult& kind : result->kinds) {
      EXPECT_GT(kind.sent, 0);
      EXPECT_EQ(kind.succeeded, kind.sent);
      EXPECT_EQ(kind.latency.count(), kind.sent);
      EXPECT_LE(kind.completed_in_time, kind.succeeded);
      EXPECT_EQ(kind.wrong, 0);
      sent += kind.sent;
    }
    if (arrivals == ArrivalKind::kUniform) {
      EXPECT_EQ(sent + result->unsent, 100);
    }
    EXPECT_GT(result->kinds[0].sent, result->kinds[1].sent);
    EXPECT_EQ(result->lag.count(), sent);
    EXPECT_EQ(result->first_error, "");
    EXPECT_EQ(result->numerics_id, "fake/1");
    EXPECT_GE(result->seconds, 0.2);
    EXPECT_GT(result->client_cores, 0);
    EXPECT_GT(told, 0);
  }
}

TEST_F(LoadGeneratorTest, WrongAnswersAreSeen) {
  const FakeScorer::Script lie = [](FakeStream& stream) {
    stream.Hello();
    v1::StreamRequest message;
    for (int n = 0; stream.Read(&message); ++n) {
      v1::StreamResponse reply = stream.Score(message);
      if (n % 5 == 4) (*reply.mutable_gradient())[43] ^= 0x40;
      stream.Write(reply);
    }
    return grpc::Status::OK;
  };
  StartServer({}, {lie});
  Connect();
  const auto result = Run(Short(ArrivalKind::kClosed));
  ASSERT_THAT(result.status(), IsOk());
  std::int64_t sent = 0, wrong = 0;
  for (const KindResult& kind : result->kinds) {
    sent += kind.sent;
    wrong += kind.wrong;
    EXPECT_EQ(kind.wrong + kind.succeeded, kind.sent);
  }
  EXPECT_NEAR(static_cast<double>(wrong), static_cast<double>(sent) / 5, 3);
  EXPECT_THAT(result->first_error, HasSubstr("gradient[10]: must be"));
}

TEST_F(LoadGeneratorTest, RefusalsAreCounted) {
  const FakeScorer::Script refuse = [](FakeStream& stream) {
    stream.Hello();
    v1::ItemError error;
    error.set_code(static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
    error.set_message("no room");
    v1::StreamRequest message;
    while (stream.Read(&message)) stream.Write(stream.Refuse(message, error));
    return grpc::Status::OK;
  };
  StartServer({}, {refuse});
  ClientOptions options = testing::QuickOptions();
  options.retry = false;
  Connect(options);
  const auto result = Run(Short(ArrivalKind::kClosed));
  ASSERT_THAT(result.status(), IsOk());
  const KindResult& kind = result->kinds[0];
  EXPECT_GT(kind.sent, 0);
  EXPECT_EQ(kind.failed.at(absl::StatusCode::kResourceExhausted), kind.sent);
  EXPECT_EQ(kind.succeeded, 0);
  EXPECT_THAT(result->first_error, HasSubstr("no room"));
}

TEST_F(LoadGeneratorTest, ARunCanBeEnded) {
  StartServer();
  Connect();
  LoadOptions options = Short(ArrivalKind::kClosed);
  options.duration = absl::Hours(1);
  const auto result = Run(options, [](double, std::int64_t completed) { return completed < 10; });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(LoadGeneratorTest, BadInputIsNamed) {
  StartServer();
  Connect();
  LoadOptions options = Short(ArrivalKind::kClosed);
  const auto error = [&](std::vector<double> weights) {
    return std::string(RunLoad(*client_, items_, weights, options, 1, nullptr).status().message());
  };
  ASSERT_THAT(Run(options).status(), IsOk());
  EXPECT_THAT(error({1.0}), HasSubstr("items: must be at least one, with a weight each; 2 and 1"));
  EXPECT_EQ(error({1.0, -1.0}), "weight: must be from 0 to 1e9; was -1");
  EXPECT_EQ(error({0.0, 0.0}), "weight: one must be above 0");
  options.in_flight = 0;
  EXPECT_THAT(error({1.0, 1.0}), HasSubstr("in_flight"));
}

}  // namespace
}  // namespace softloss::load
