#include <algorithm>
#include <utility>

#include "tests/bench/certificate.h"
#include "tests/bench/many_streams.h"
#include "tests/bench/transport_rows.h"

namespace softloss {
namespace {

constexpr std::int64_t kRowBytes = 2 * 4 * Workload::kClasses;  // of f32 pairs
constexpr std::int64_t kRows2MiB = (2 << 20) / kRowBytes;

// Seconds from the first byte sent to the reply, of the median item when one is in flight.
double MedianLatency(StreamDriver& stream) {
  constexpr int kItems = 1000;
  std::vector<double> seconds(kItems);
  for (double& s : seconds) s = stream.Run({8 << 10, 1}, 1);
  std::nth_element(seconds.begin(), seconds.begin() + kItems / 2, seconds.end());
  return seconds[kItems / 2];
}

void MeasureLatency(const TransportServers& servers, BenchReport* report) {
  BenchRow row = MeasurePairs(
      "8 KiB, one in flight: p50 latency", "us",
      [&] { return 1e6 * MedianLatency(servers.our_stream); },
      [&] { return 1e6 * MedianLatency(servers.raw_stream); });
  row.at_most = 1.25;
  row.aim = 1.10;
  report->Add(std::move(row));
}

// As many elements: items that are 2 MiB of f32 pairs.
void MeasureNarrowTypes(const TransportServers& servers, BenchReport* report) {
  constexpr std::int64_t kItems = kBytesARun / (2 << 20);
  constexpr double kGigaElements =
      static_cast<double>(kItems * kRows2MiB * Workload::kClasses) / 1e9;
  ManyStreams narrow(servers.ours.address(),
                     {.prediction = v1::BFLOAT16, .label = v1::UINT8, .gradient = v1::BFLOAT16});
  BenchRow row = MeasurePairs(
      "bf16 + u8 -> bf16, over raw f32", "G elem/s",
      [&] { return kGigaElements / narrow.Run(kRows2MiB, 4, kItems); },
      [&] {
        return kGigaElements / servers.raw_stream.Run({2 << 20, 4}, kItems);
      });
  row.at_least = 1.4;
  row.aim = 1.9;
  report->Add(std::move(row));
}

// The same load over 64 streams and over one; the raw server's loss is not ours to mend.
void MeasureStreams(const TransportServers& servers, BenchReport* report) {
  constexpr std::int64_t kItemBytes = 64 << 10, kItems = kBytesARun / kItemBytes;
  constexpr int kStreams = 64;
  constexpr double kGigabytes = static_cast<double>(kItems * kItemBytes) / 1e9;
  const struct {
    const char* name;
    const ServerProcess& server;
    bool ours;
  } cases[] = {{"64 KiB, 64 streams over one", servers.ours, true},
               {"the same, raw server", servers.raw, false}};
  for (const auto& c : cases) {
    ManyStreams one(c.server.address(), {.streams = 1});
    ManyStreams many(c.server.address(), {.streams = kStreams});
    BenchRow row = MeasurePairs(
        c.name, "GB/s",
        [&] { return kGigabytes / many.Run(kItemBytes / kRowBytes, kStreams, kItems); },
        [&] { return kGigabytes / one.Run(kItemBytes / kRowBytes, kStreams, kItems); });
    if (c.ours) {
      row.at_least = 0.90;
      row.aim = 1.0;
    }
    report->Add(std::move(row));
  }
}

void MeasureTls(BenchReport* report) {
  constexpr std::int64_t kItems = (kBytesARun / 2) / (2 << 20);
  constexpr double kGigabytes = static_cast<double>(kItems * (2 << 20)) / 1e9;
  const Certificate certificate;
  const ServerProcess ours(OurServer(
      {"--tls_cert=" + certificate.certificate_path(), "--tls_key=" + certificate.key_path()}));
  const ServerProcess raw(
      {SiblingProgram("byte_server"), certificate.certificate_path(), certificate.key_path()});
  ManyStreams our_stream(ours.address(), {.credentials = certificate.ClientCredentials()});
  ManyStreams raw_stream(raw.address(), {.credentials = certificate.ClientCredentials()});
  BenchRow row = MeasurePairs(
      "2 MiB by TLS, over raw TLS", "GB/s",
      [&] { return kGigabytes / our_stream.Run(kRows2MiB, 4, kItems); },
      [&] { return kGigabytes / raw_stream.Run(kRows2MiB, 4, kItems); });
  row.at_least = 0.80;
  row.aim = 0.95;
  report->Add(std::move(row));
}

}  // namespace

void MeasureWire(const TransportServers& servers, BenchReport* report) {
  MeasureLatency(servers, report);
  MeasureNarrowTypes(servers, report);
  MeasureStreams(servers, report);
  MeasureTls(report);
}

}  // namespace softloss
