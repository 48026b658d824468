#include "client/load/load_run.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

#include "client/load/load_generator.h"

namespace softloss::load {
namespace {

absl::Duration Ms(double ms) { return absl::Milliseconds(ms); }

LoadOptions Options(ArrivalKind arrivals, double rate, int in_flight) {
  LoadOptions options;
  options.arrivals = arrivals;
  options.rate = rate;
  options.in_flight = in_flight;
  options.warmup = Ms(10);
  options.duration = Ms(100);
  return options;
}

TEST(LoadRunTest, AClosedLoopKeepsItsNumberInFlight) {
  LoadRun run(Options(ArrivalKind::kClosed, 0, 3), {1.0});
  std::deque<Sent> flying;
  // Each takes 2 ms, and is replaced.
  for (double now = 0; now < 130; now += 1) {
    if (!flying.empty() && flying.front().due + Ms(2) <= Ms(now)) {
      run.Complete(flying.front(), Ms(now), LoadRun::Outcome::kRight);
      flying.pop_front();
    }
    while (const auto sent = run.NextSend(Ms(now))) flying.push_back(*sent);
    EXPECT_EQ(run.in_flight(), static_cast<int>(flying.size()));
    if (now < 110) {
      EXPECT_EQ(flying.size(), 3u);
    }
    EXPECT_EQ(run.NextDue(), std::nullopt);
  }
  EXPECT_TRUE(run.Done(Ms(130)));
  const KindResult& kind = run.kinds()[0];
  EXPECT_EQ(kind.sent, 100);  // one a millisecond, of the measured ones
  EXPECT_EQ(kind.succeeded, 100);
  EXPECT_EQ(kind.completed_in_time, 97);
  EXPECT_NEAR(static_cast<double>(kind.latency.Quantile(0.5)), 3e6, 3e3);
}

// The server stands still for 50 ms: every request that was due meanwhile waited, though none was sent.
TEST(LoadRunTest, AnOpenLoopCountsTheWaitOfWhatItCouldNotSend) {
  LoadOptions options = Options(ArrivalKind::kUniform, 1000, 0);
  options.most_in_flight = 1;
  LoadRun run(options, {1.0});
  std::optional<Sent> flying;
  const auto ends = [](absl::Duration now) {  // of a request that is sent now
    return now < Ms(20) || now > Ms(70) ? now + Ms(0.1) : Ms(70);
  };
  absl::Duration end;
  for (double ms = 0; ms < 200; ms += 0.1) {
    const absl::Duration now = Ms(ms);
    if (flying && end <= now) {
      run.Complete(*flying, now, LoadRun::Outcome::kRight);
      flying.reset();
    }
    if (!flying && (flying = run.NextSend(now))) end = ends(now);
  }
  const KindResult& kind = run.kinds()[0];
  EXPECT_EQ(kind.sent, 100);
  EXPECT_EQ(kind.succeeded, 100);
  // Those due in the pause waited 50, 49, … ms; a count from sending would know of one.
  EXPECT_GE(kind.latency.CountAbove(10'000'000), 35);
  EXPECT_GE(kind.latency.max(), 49'000'000);
  EXPECT_GE(run.lag().Quantile(0.6), 1'000'000);
  EXPECT_EQ(run.Unsent(), 0);
}

TEST(LoadRunTest, WhatIsDueAtTheEndOfAnOverloadIsToldAndNotSent) {
  LoadOptions options = Options(ArrivalKind::kPoisson, 10'000, 0);
  options.most_in_flight = 8;
  LoadRun run(options, {1.0});
  int sent = 0;
  while (run.NextSend(Ms(109.9))) ++sent;
  EXPECT_EQ(sent, 8);
  EXPECT_EQ(run.NextDue(), std::nullopt);
  EXPECT_EQ(run.NextSend(Ms(110)), std::nullopt);
  EXPECT_FALSE(run.Done(Ms(110)));
  const double rest = static_cast<double>(run.Unsent());
  EXPECT_NEAR(rest, 1000, 160);  // of 100 ms; what was sent is of the warm-up
}

TEST(LoadRunTest, KindsHaveTheirShares) {
  LoadOptions options = Options(ArrivalKind::kClosed, 0, 1);
  options.warmup = absl::ZeroDuration();
  LoadRun run(options, {3.0, 0.0, 1.0});
  int counts[3] = {};
  for (int i = 0; i < 20'000; ++i) {
    const auto sent = run.NextSend(Ms(1));
    ++counts[sent->kind];
    run.Complete(*sent, Ms(1.5), i % 10 == 0 ? LoadRun::Outcome::kWrong : LoadRun::Outcome::kRight);
  }
  EXPECT_EQ(counts[1], 0);
  EXPECT_NEAR(counts[0], 15'000, 320);
  EXPECT_EQ(run.kinds()[0].wrong + run.kinds()[2].wrong, 2000);
  EXPECT_EQ(run.kinds()[0].sent, counts[0]);
}

TEST(LoadRunTest, FailuresHaveNoLatency) {
  LoadRun run(Options(ArrivalKind::kClosed, 0, 1), {1.0});
  for (const double due : {5.0, 20.0}) {  // one in the warm-up, which does not count
    const auto sent = run.NextSend(Ms(due));
    run.Complete(*sent, Ms(due + 1), LoadRun::Outcome::kFailed, absl::StatusCode::kUnavailable);
  }
  const KindResult& kind = run.kinds()[0];
  EXPECT_EQ(kind.sent, 1);
  EXPECT_EQ(kind.failed.at(absl::StatusCode::kUnavailable), 1);
  EXPECT_EQ(kind.latency.count(), 0);
}

TEST(LoadRunTest, AStoppedRunWaitsForWhatIsInFlight) {
  LoadRun run(Options(ArrivalKind::kUniform, 100, 0), {1.0});
  const auto sent = run.NextSend(Ms(50));
  run.Stop();
  EXPECT_EQ(run.NextSend(Ms(60)), std::nullopt);
  EXPECT_FALSE(run.Done(Ms(60)));
  run.Complete(*sent, Ms(61), LoadRun::Outcome::kRight);
  EXPECT_TRUE(run.Done(Ms(61)));
}

TEST(LoadOptionsTest, BadOnesAreNamed) {
  const auto error = [](auto change) {
    LoadOptions options;
    change(options);
    return std::string(Validate(options).message());
  };
  EXPECT_EQ(error([](LoadOptions&) {}), "");
  EXPECT_EQ(error([](LoadOptions& o) { o.in_flight = 0; }),
            "in_flight: must be from 1 to 1000000; was 0");
  EXPECT_EQ(error([](LoadOptions& o) { o.arrivals = ArrivalKind::kPoisson; }),
            "rate: must be above 0 and at most 1e8; was 0");
  EXPECT_EQ(error([](LoadOptions& o) { o.duration = absl::ZeroDuration(); }),
            "duration: must be from 1ms to 24h; was 0");
  EXPECT_EQ(error([](LoadOptions& o) { o.warmup = -absl::Seconds(1); }),
            "warmup: must be from 0 to 24h; was -1s");
  EXPECT_EQ(error([](LoadOptions& o) { o.most_in_flight = 0; }),
            "most_in_flight: must be at least 1; was 0");
}

TEST(ClientLimitTest, SaysWhenThisProcessIsTheBottleneck) {
  LoadOptions open = Options(ArrivalKind::kPoisson, 100, 0);
  LoadResult result;
  result.kinds.resize(1);
  result.client_threads = 2;
  result.client_cores = 0.5;
  for (int i = 0; i < 100; ++i) {
    result.kinds[0].latency.Record(5'000'000);
    result.lag.Record(100'000);
  }
  EXPECT_EQ(result.ClientLimit(open), "");
  LoadResult busy = result;
  busy.client_cores = 1.85;
  EXPECT_NE(busy.ClientLimit(open), "");
  LoadResult late = result;
  for (int i = 0; i < 10; ++i) late.lag.Record(2'000'000);
  EXPECT_NE(late.ClientLimit(open), "");
  // A closed loop is never late; and an open one that the server holds back is not this one's fault.
  EXPECT_EQ(late.ClientLimit(Options(ArrivalKind::kClosed, 0, 1)), "");
  late.unsent = 3;
  EXPECT_EQ(late.ClientLimit(open), "");
}

}  // namespace
}  // namespace softloss::load
