#include "server/metrics.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/histogram.h"

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Metrics::BuildInfo Build() {
  return {.version = "1.2.3", .backend = "cpu", .numerics_id = "cpu/test"};
}

// The sample lines of an exposition, by name and labels as written.
std::map<std::string, double> Samples(const Metrics& metrics) {
  std::map<std::string, double> samples;
  std::istringstream text(metrics.Serialize());
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t space = line.rfind(' ');
    double value = kNaN;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
    samples[line.substr(0, space)] = value;
  }
  return samples;
}

ItemObservation ScoredItem() {
  ItemTotals totals;
  totals.loss_sum = 6;
  totals.loss = 1.5;
  totals.denominator = 4;
  totals.gradient_l2_norm = 0.25;
  totals.tally = {.valid = 4,
                  .nonfinite_predictions = 1,
                  .nonfinite_labels = 2,
                  .nonfinite_losses = 3,
                  .unnormalized_labels = 4,
                  .out_of_range_labels = 5};
  return {.loss = Loss::kSoftmaxCrossEntropy,
          .outcome = Outcome::kOk,
          .latency_s = 0.003,
          .rows = 7,
          .times = {.decode_ns = 1000, .queue_ns = 0, .compute_ns = 2'000'000},
          .totals = totals};
}

TEST(Metrics, NamesAndTypesAreTheDocumentedOnes) {
  Metrics metrics(Build());
  metrics.AddGaugeSource("softloss_queue_bytes", "Bytes queued.", [] { return 1.0; });
  std::vector<std::string> types;
  std::istringstream text(metrics.Serialize());
  for (std::string line; std::getline(text, line);) {
    if (absl::StartsWith(line, "# TYPE ")) types.push_back(line.substr(7));
  }
  EXPECT_THAT(types, testing::UnorderedElementsAreArray({
                         "grpc_server_handled_total counter",
                         "grpc_server_handling_seconds histogram",
                         "grpc_server_msg_received_total counter",
                         "grpc_server_msg_sent_total counter",
                         "grpc_server_started_total counter",
                         "process_cpu_seconds_total counter",
                         "process_open_fds gauge",
                         "process_resident_memory_bytes gauge",
                         "softloss_backend_errors_total counter",
                         "softloss_batch_bytes histogram",
                         "softloss_batch_items histogram",
                         "softloss_batches_closed_total counter",
                         "softloss_build_info gauge",
                         "softloss_gradient_l2_norm histogram",
                         "softloss_inflight_items gauge",
                         "softloss_invalid_inputs_total counter",
                         "softloss_item_latency_seconds histogram",
                         "softloss_items_total counter",
                         "softloss_loss_nats histogram",
                         "softloss_metrics_dropped_total counter",
                         "softloss_nonfinite_values_total counter",
                         "softloss_out_of_range_labels_total counter",
                         "softloss_quality_votes_total counter",
                         "softloss_queue_bytes gauge",
                         "softloss_ready gauge",
                         "softloss_received_bytes_total counter",
                         "softloss_rows_total counter",
                         "softloss_sent_bytes_total counter",
                         "softloss_shared_memory_item_bytes_total counter",
                         "softloss_shared_memory_items_total counter",
                         "softloss_shared_memory_refused_total counter",
                         "softloss_shed_total counter",
                         "softloss_stage_duration_seconds histogram",
                         "softloss_streams_active gauge",
                         "softloss_unnormalized_labels_total counter",
                     }));
}

TEST(Metrics, SeriesExistFromTheStartAndAreBounded) {
  Metrics metrics(Build());
  auto before = Samples(metrics);
  EXPECT_EQ(before.at(R"(softloss_items_total{loss="sigmoid_cross_entropy",outcome="shed"})"), 0);
  EXPECT_EQ(before.at(R"(softloss_shed_total{reason="quota"})"), 0);
  EXPECT_EQ(before.at(R"(softloss_batches_closed_total{reason="deadline"})"), 0);
  const std::string info =
      R"(softloss_build_info{backend="cpu",numerics_id="cpu/test",version="1.2.3"})";
  EXPECT_EQ(before.at(info), 1);
  EXPECT_LT(before.size(), 2000u);
  metrics.RpcStarted(RpcMethod::kScoreStream);
  metrics.RpcHandled(RpcMethod::kScoreStream, 99);
  metrics.ItemStarted();
  metrics.ItemFinished(ScoredItem());
  metrics.BatchClosed(CloseReason::kIdle, 3, 1000);
  EXPECT_EQ(Samples(metrics).size(), before.size());
}

TEST(Metrics, GaugesWithLabelsAreReadWhenTheMetricsAre) {
  Metrics metrics(Build());
  std::vector<GaugeSample> samples = {{{{"campaign", "a"}}, 3}, {{{"campaign", "b"}}, NAN}};
  metrics.AddGaugeSource("softloss_quality_items", "Items.", [&] { return samples; });
  auto read = Samples(metrics);
  EXPECT_EQ(read.at(R"(softloss_quality_items{campaign="a"})"), 3);
  EXPECT_FALSE(read.contains(R"(softloss_quality_items{campaign="b"})"));
  EXPECT_EQ(read.at(R"(softloss_metrics_dropped_total{metric="softloss_quality_items"})"), 1);
  samples = {{{{"campaign", "b"}}, 4}};
  read = Samples(metrics);
  EXPECT_FALSE(read.contains(R"(softloss_quality_items{campaign="a"})"));
  EXPECT_EQ(read.at(R"(softloss_quality_items{campaign="b"})"), 4);

  metrics.QualityVotes(VoteOutcome::kRefused, 5);
  EXPECT_EQ(Samples(metrics).at(R"(softloss_quality_votes_total{outcome="refused"})"), 5);
}

TEST(Metrics, Rpcs) {
  Metrics metrics(Build());
  metrics.RpcStarted(RpcMethod::kScore);
  metrics.MessageReceived(RpcMethod::kScore);
  metrics.MessageSent(RpcMethod::kScore);
  metrics.RpcHandled(RpcMethod::kScore, 8, 0.02);
  metrics.RpcHandled(RpcMethod::kScoreStream, 1, 5.0);
  metrics.RpcHandled(RpcMethod::kHealthCheck, 1234, 0.0);
  const auto samples = Samples(metrics);
  const std::string score =
      R"(grpc_method="Score",grpc_service="softloss.v1.Scorer",grpc_type="unary")";
  EXPECT_EQ(samples.at("grpc_server_started_total{" + score + "}"), 1);
  EXPECT_EQ(samples.at("grpc_server_msg_received_total{" + score + "}"), 1);
  EXPECT_EQ(samples.at("grpc_server_msg_sent_total{" + score + "}"), 1);
  EXPECT_EQ(samples.at(R"(grpc_server_handled_total{grpc_code="ResourceExhausted",)" + score + "}"),
            1);
  EXPECT_EQ(samples.at("grpc_server_handling_seconds_sum{" + score + "}"), 0.02);
  EXPECT_EQ(samples.at("grpc_server_handling_seconds_bucket{" + score + R"(,le="0.02"})"), 1);
  EXPECT_EQ(samples.at("grpc_server_handling_seconds_bucket{" + score + R"(,le="0.01"})"), 0);
  EXPECT_EQ(
      samples.at(R"(grpc_server_handled_total{grpc_code="Canceled",grpc_method="ScoreStream",)"
                 R"(grpc_service="softloss.v1.Scorer",grpc_type="bidi_stream"})"),
      1);
  EXPECT_EQ(samples.at(R"(grpc_server_handled_total{grpc_code="Unknown",grpc_method="Check",)"
                       R"(grpc_service="grpc.health.v1.Health",grpc_type="unary"})"),
            1);
  for (const auto& [name, value] : samples) {
    EXPECT_THAT(name, Not(testing::AllOf(HasSubstr("handling_seconds"), HasSubstr("ScoreStream"))));
  }
}

TEST(Metrics, AScoredItem) {
  Metrics metrics(Build());
  metrics.ItemStarted();
  metrics.ItemStarted();
  metrics.ItemFinished(ScoredItem());
  const auto samples = Samples(metrics);
  const std::string loss = R"({loss="softmax_cross_entropy"})";
  EXPECT_EQ(samples.at("softloss_inflight_items"), 1);
  EXPECT_EQ(samples.at(R"(softloss_items_total{loss="softmax_cross_entropy",outcome="ok"})"), 1);
  EXPECT_EQ(samples.at("softloss_rows_total" + loss), 7);
  EXPECT_EQ(samples.at("softloss_item_latency_seconds_sum" + loss), 0.003);
  EXPECT_EQ(samples.at("softloss_item_latency_seconds_count" + loss), 1);
  EXPECT_EQ(samples.at("softloss_loss_nats_sum" + loss), 1.5);
  EXPECT_EQ(samples.at("softloss_gradient_l2_norm_sum" + loss), 0.25);
  EXPECT_EQ(samples.at(R"(softloss_stage_duration_seconds_count{stage="decode"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_stage_duration_seconds_count{stage="queue"})"), 0);
  EXPECT_DOUBLE_EQ(samples.at(R"(softloss_stage_duration_seconds_sum{stage="compute"})"), 0.002);
  EXPECT_EQ(samples.at(R"(softloss_nonfinite_values_total{tensor="prediction"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_nonfinite_values_total{tensor="label"})"), 2);
  EXPECT_EQ(samples.at(R"(softloss_nonfinite_values_total{tensor="loss"})"), 3);
  EXPECT_EQ(samples.at("softloss_unnormalized_labels_total" + loss), 4);
  EXPECT_EQ(samples.at("softloss_out_of_range_labels_total" + loss), 5);
  EXPECT_EQ(samples.at(R"(softloss_loss_nats_count{loss="sigmoid_cross_entropy"})"), 0);
}

TEST(Metrics, ItemsThatWereNotScoredHaveNoLoss) {
  Metrics metrics(Build());
  metrics.ItemFinished({.loss = Loss::kSigmoidCrossEntropy, .outcome = Outcome::kShed});
  ItemObservation empty = ScoredItem();
  empty.totals->empty = true;
  metrics.ItemFinished(empty);
  const auto samples = Samples(metrics);
  EXPECT_EQ(samples.at(R"(softloss_items_total{loss="sigmoid_cross_entropy",outcome="shed"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_loss_nats_count{loss="sigmoid_cross_entropy"})"), 0);
  EXPECT_EQ(samples.at(R"(softloss_loss_nats_count{loss="softmax_cross_entropy"})"), 0);
}

TEST(Metrics, TheOtherCounters) {
  Metrics metrics(Build());
  metrics.InvalidInput(InvalidReason::kShape);
  metrics.Shed(ShedReason::kQuota);
  metrics.BackendError(BackendErrorKind::kOutOfMemory);
  metrics.ReceivedBytes(1000);
  metrics.ReceivedBytes(-5);  // counters never go down
  metrics.SentBytes(500);
  metrics.StreamOpened();
  metrics.StreamOpened();
  metrics.StreamClosed();
  metrics.BatchClosed(CloseReason::kFull, 12, 4096);
  metrics.SetReady(true);
  const auto samples = Samples(metrics);
  EXPECT_EQ(samples.at(R"(softloss_invalid_inputs_total{reason="shape"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_shed_total{reason="quota"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_backend_errors_total{kind="oom"})"), 1);
  EXPECT_EQ(samples.at("softloss_received_bytes_total"), 1000);
  EXPECT_EQ(samples.at("softloss_sent_bytes_total"), 500);
  EXPECT_EQ(samples.at("softloss_streams_active"), 1);
  EXPECT_EQ(samples.at(R"(softloss_batches_closed_total{reason="full"})"), 1);
  EXPECT_EQ(samples.at(R"(softloss_batch_items_sum{backend="cpu"})"), 12);
  EXPECT_EQ(samples.at(R"(softloss_batch_bytes_sum{backend="cpu"})"), 4096);
  EXPECT_EQ(samples.at("softloss_ready"), 1);
  metrics.SetReady(false);
  EXPECT_EQ(Samples(metrics).at("softloss_ready"), 0);
}

TEST(Metrics, GaugeSourcesAreReadAtEachScrape) {
  Metrics metrics(Build());
  double bytes = 5;
  metrics.AddGaugeSource("softloss_queue_bytes", "Bytes queued.", [&] { return bytes; });
  EXPECT_EQ(Samples(metrics).at("softloss_queue_bytes"), 5);
  bytes = 6;
  EXPECT_EQ(Samples(metrics).at("softloss_queue_bytes"), 6);
  bytes = kNaN;
  auto samples = Samples(metrics);
  EXPECT_EQ(samples.count("softloss_queue_bytes"), 0u);
  EXPECT_EQ(samples.at(R"(softloss_metrics_dropped_total{metric="softloss_queue_bytes"})"), 1);
  metrics.ClearGaugeSources();
  EXPECT_EQ(Samples(metrics).count("softloss_queue_bytes"), 0u);
}

TEST(Metrics, TheProcessIsThere) {
  Metrics metrics(Build());
  const auto samples = Samples(metrics);
  EXPECT_GT(samples.at("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(samples.at("process_cpu_seconds_total"), 0);
  const double fds = samples.at("process_open_fds");
  std::FILE* file = std::fopen("/dev/null", "r");
  EXPECT_EQ(Samples(metrics).at("process_open_fds"), fds + 1);
  std::fclose(file);
}

TEST(Metrics, NonFiniteValuesNeverGetIn) {
  Metrics metrics(Build());
  metrics.ItemFinished(ScoredItem());
  for (int i = 0; i < 1000; ++i) {
    for (double bad : {kNaN, kInf, -kInf}) {
      ItemObservation item = ScoredItem();
      item.latency_s = bad;
      item.totals->loss_sum = bad;
      item.totals->gradient_l2_norm = bad;
      metrics.ItemFinished(item);
      metrics.RpcHandled(RpcMethod::kScore, 0, bad);
    }
  }
  ItemObservation divided = ScoredItem();
  divided.totals->loss_sum = 0;
  divided.totals->denominator = 0;  // WEIGHTED never clamps
  metrics.ItemFinished(divided);

  const auto samples = Samples(metrics);
  for (const auto& [name, value] : samples) EXPECT_TRUE(std::isfinite(value)) << name;
  const std::string loss = R"({loss="softmax_cross_entropy"})";
  EXPECT_EQ(samples.at("softloss_loss_nats_sum" + loss), 1.5);
  EXPECT_EQ(samples.at("softloss_loss_nats_count" + loss), 1);
  const auto dropped = [&](const std::string& metric) {
    return samples.at(absl::StrCat(R"(softloss_metrics_dropped_total{metric=")", metric, "\"}"));
  };
  EXPECT_EQ(dropped("softloss_loss_nats"), 3001);
  EXPECT_EQ(dropped("softloss_gradient_l2_norm"), 3000);
  EXPECT_EQ(dropped("softloss_item_latency_seconds"), 3000);
  EXPECT_EQ(dropped("grpc_server_handling_seconds"), 3000);
  EXPECT_EQ(dropped("softloss_stage_duration_seconds"), 0);
}

TEST(Metrics, ThreadsLoseNothingWhileScraped) {
  Metrics metrics(Build());
  constexpr int kThreads = 4;
  constexpr int kItems = 5000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kItems; ++i) {
        metrics.ItemStarted();
        metrics.ItemFinished(ScoredItem());
      }
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_THAT(metrics.Serialize(), HasSubstr("softloss_items_total"));
  for (auto& thread : threads) thread.join();
  const auto samples = Samples(metrics);
  const std::string loss = R"({loss="softmax_cross_entropy"})";
  EXPECT_EQ(samples.at("softloss_inflight_items"), 0);
  EXPECT_EQ(samples.at(R"(softloss_items_total{loss="softmax_cross_entropy",outcome="ok"})"),
            kThreads * kItems);
  EXPECT_EQ(samples.at("softloss_loss_nats_count" + loss), kThreads * kItems);
  EXPECT_EQ(samples.at("softloss_loss_nats_sum" + loss), 1.5 * kThreads * kItems);
}

TEST(Metrics, PassPrometheusOwnLint) {
  if (std::system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool is absent";
  Metrics metrics(Build());
  metrics.AddGaugeSource("softloss_queue_bytes", "Bytes queued.", [] { return 1.0; });
  metrics.ItemFinished(ScoredItem());
  const std::string path = testing::TempDir() + "/softloss_exposition.txt";
  std::ofstream(path) << metrics.Serialize();
  EXPECT_EQ(std::system(("promtool check metrics <" + path).c_str()), 0);
}

TEST(Histogram, BucketsAre125) {
  EXPECT_THAT(Buckets125(1e-4, 10), ElementsAre(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2,
                                                5e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10));
  EXPECT_THAT(Buckets125(20, 50), ElementsAre(20, 50));
  EXPECT_THAT(Buckets125(5e-6, 1e-5), ElementsAre(5e-6, 1e-5));
}

TEST(Histogram, BoundsBelongToTheBucketBelow) {
  Histogram histogram({1, 2, 5});
  for (double value : {-3.0, 1.0, 1.5, 2.0, 5.0, 5.1, 1e300}) EXPECT_TRUE(histogram.Observe(value));
  EXPECT_EQ(histogram.count(0), 2u);
  EXPECT_EQ(histogram.count(1), 2u);
  EXPECT_EQ(histogram.count(2), 1u);
  EXPECT_EQ(histogram.count(3), 2u);
  for (double value : {kNaN, kInf, -kInf}) EXPECT_FALSE(histogram.Observe(value));
  EXPECT_TRUE(std::isfinite(histogram.sum()));
}

}  // namespace
}  // namespace softloss
