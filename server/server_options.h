// Every option of softlossd. One table (server_options.cc) gives flags, config file, defaults, checks
// and --help.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace softloss {

// A field's name is its flag's name. What each means, its unit and what 0 stands for: --help.
struct ServerOptions {
  std::vector<std::string> listen = {"127.0.0.1:50051"};
  bool insecure_listen = false;
  std::string metrics_listen = "127.0.0.1:9464";
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;

  std::string backend = "auto";
  std::int64_t io_threads = 0;
  std::int64_t cpu_threads = 0;
  std::int64_t spill_bytes = std::int64_t{1} << 20;

  std::int64_t global_budget_bytes = std::int64_t{1} << 30;
  std::int64_t tenant_budget_bytes = 0;
  std::int64_t stream_credit_bytes = std::int64_t{16} << 20;
  std::int64_t stream_credit_items = 1024;
  std::int64_t max_message_bytes = std::int64_t{4} << 20;
  std::int64_t max_chunk_bytes = std::int64_t{2} << 20;
  std::int64_t max_streams = 64;
  std::int64_t item_stall_timeout_s = 60;
  std::int64_t slab_cache_bytes = std::int64_t{256} << 20;

  std::string shared_memory_socket;
  std::int64_t shared_memory_session_regions = 256;
  std::int64_t shared_memory_session_bytes = std::int64_t{4} << 30;
  std::int64_t shared_memory_tenant_regions = 4096;
  std::int64_t shared_memory_tenant_bytes = std::int64_t{16} << 30;

  std::int64_t batch_max_bytes = std::int64_t{32} << 20;
  std::int64_t batch_max_age_us = 500;
  std::int64_t batch_deadline_margin_us = 1000;
  std::int64_t batch_queue_bytes = 0;

  std::string quality_dir;
  std::int64_t quality_memory_bytes = std::int64_t{2} << 30;
  std::int64_t quality_max_campaigns = 100;
  std::int64_t quality_alert_interval_s = 300;

  std::int64_t drain_grace_s = 0;
  std::int64_t drain_timeout_s = 30;
  std::string log_level = "info";

  // Not in a config file.
  std::string config;
  bool help = false;
  bool version = false;
};

// The command line over the config file over the defaults, validated. With --help or --version only
// that is looked at. INVALID_ARGUMENT names the option, the rule and the value (and the line of a
// config file); NOT_FOUND a config file that cannot be read.
absl::StatusOr<ServerOptions> ParseServerOptions(int argc, const char* const* argv);

// Also replaces every 0 that means "the default" or "from the machine" by what it stands for;
// `cores` is the machine's.
absl::Status ValidateAndResolve(ServerOptions& options, int cores);

// For --help: each option with its type, default, unit and the meaning of 0.
std::string ServerOptionsHelp();

// The names of all options, in the order of --help.
std::vector<std::string> ServerOptionNames();

}  // namespace softloss
