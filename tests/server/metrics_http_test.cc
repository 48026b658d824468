#include "server/metrics_http.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/http_exchange.h"

namespace softloss {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using testing::Exchange;
using testing::Get;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

MetricsHttp::Handlers Fixed(absl::Status ready = absl::OkStatus()) {
  return {.metrics = [] { return std::string("softloss_test 1\n"); },
          .ready = [ready] { return ready; }};
}

TEST(MetricsHttp, ServesMetrics) {
  auto http = MetricsHttp::Start("127.0.0.1:0", Fixed());
  ASSERT_TRUE(http.ok()) << http.status();
  EXPECT_THAT((*http)->address(), AllOf(StartsWith("127.0.0.1:"), Not(EndsWith(":0"))));
  EXPECT_THAT(
      Get((*http)->address(), "/metrics"),
      AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Type: text/plain; version=0.0.4"),
            EndsWith("\r\n\r\nsoftloss_test 1\n")));
  EXPECT_THAT(Get((*http)->address(), "/metrics?x=y"), StartsWith("HTTP/1.1 200"));
}

TEST(MetricsHttp, LivesWhileNotReady) {
  absl::Status ready = absl::UnavailableError("draining");
  auto http = MetricsHttp::Start(
      "127.0.0.1:0", {.metrics = [] { return std::string(); }, .ready = [&] { return ready; }});
  ASSERT_TRUE(http.ok()) << http.status();
  EXPECT_THAT(Get((*http)->address(), "/livez"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Get((*http)->address(), "/readyz"),
              AllOf(StartsWith("HTTP/1.1 503"), EndsWith("draining\n")));
  ready = absl::OkStatus();
  EXPECT_THAT(Get((*http)->address(), "/readyz"),
              AllOf(StartsWith("HTTP/1.1 200"), EndsWith("ok\n")));
}

TEST(MetricsHttp, NothingElseIsThere) {
  auto http = MetricsHttp::Start("127.0.0.1:0", Fixed());
  ASSERT_TRUE(http.ok()) << http.status();
  const std::string& address = (*http)->address();
  for (const char* path :
       {"/", "/metrics/", "/etc/passwd", "/../../etc/passwd", "/METRICS", "/%2e"}) {
    EXPECT_THAT(Get(address, path), AllOf(StartsWith("HTTP/1.1 4"), Not(HasSubstr("root:"))))
        << path;
  }
  EXPECT_THAT(Exchange(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(
      Exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
      AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 16"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(Exchange(address, "nonsense\r\n\r\n"), Not(HasSubstr("200 OK")));
  EXPECT_THAT(Get(address, "/livez"), StartsWith("HTTP/1.1 200"));
}

TEST(MetricsHttp, ATakenPortIsAnError) {
  auto first = MetricsHttp::Start("127.0.0.1:0", Fixed());
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = MetricsHttp::Start((*first)->address(), Fixed());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(second.status().message(),
              AllOf(HasSubstr("metrics_listen"), HasSubstr((*first)->address())));
  EXPECT_THAT(Get((*first)->address(), "/livez"), StartsWith("HTTP/1.1 200"));
}

TEST(MetricsHttp, BadAddresses) {
  for (const char* address : {"", "9464", ":9464", "127.0.0.1:", "127.0.0.1:65536",
                              "127.0.0.1:1,127.0.0.1:2", "+127.0.0.1:1"}) {
    EXPECT_EQ(MetricsHttp::Start(address, Fixed()).status().code(),
              absl::StatusCode::kInvalidArgument)
        << address;
  }
  EXPECT_EQ(MetricsHttp::Start("no-such-host:1", Fixed()).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(MetricsHttp, ManyScrapesAtOnce) {
  auto http = MetricsHttp::Start("127.0.0.1:0", Fixed());
  ASSERT_TRUE(http.ok()) << http.status();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        EXPECT_THAT(Get((*http)->address(), "/metrics"), EndsWith("softloss_test 1\n"));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(MetricsHttp, StopsAndStartsAgainOnTheSamePort) {
  std::string address;
  {
    auto http = MetricsHttp::Start("127.0.0.1:0", Fixed());
    ASSERT_TRUE(http.ok());
    address = (*http)->address();
    EXPECT_THAT(Get(address, "/livez"), StartsWith("HTTP/1.1 200"));
  }
  auto again = MetricsHttp::Start(address, Fixed());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->address(), address);
}

}  // namespace
}  // namespace softloss
