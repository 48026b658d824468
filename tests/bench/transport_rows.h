// The rows of transport_bench, a file for each group. Every measurement alternates with its baseline.
#pragma once

#include "tests/bench/bench_report.h"
#include "tests/bench/server_process.h"
#include "tests/bench/stream_driver.h"

namespace softloss {

// softlossd and byte_server, each with one thread for I/O, and a stream to each.
struct TransportServers {
  const ServerProcess& ours;
  const ServerProcess& raw;
  StreamDriver& our_stream;
  StreamDriver& raw_stream;
};

// A server like TransportServers::ours, with `options` on top.
std::vector<std::string> OurServer(std::vector<std::string> options = {});

// About a third of a second of work for the baseline.
inline constexpr std::int64_t kBytesARun = std::int64_t{1} << 30;
// For rows whose measurements take longer, or differ less.
inline constexpr int kFewPairs = 5;

// transport_cpu.cc: what the server's process spends.
void MeasureCpu(const TransportServers& servers, BenchReport* report);
// transport_wire.cc: latency, narrow dtypes, many streams, TLS.
void MeasureWire(const TransportServers& servers, BenchReport* report);
// transport_clients.cc: what the clients add; shared memory.
void MeasureClients(const TransportServers& servers, const std::string& with_memory,
                    BenchReport* report);
// transport_load.cc: small items beside large ones, more than the server can do, and for long.
void MeasureLoads(const TransportServers& servers, BenchReport* report);

}  // namespace softloss
