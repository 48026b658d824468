#include "server/server_options.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/listen_address.h"

namespace softloss {
namespace {

enum class Unit : std::uint8_t { kNone, kBytes, kSeconds, kMicroseconds };

struct Option {
  absl::string_view name;
  std::variant<bool ServerOptions::*, std::int64_t ServerOptions::*, std::string ServerOptions::*,
               std::vector<std::string> ServerOptions::*>
      field;
  absl::string_view help;
  absl::string_view zero = "";     // what 0 means; without it, 0 is a number like others
  absl::string_view choices = "";  // of a text, separated by |
  Unit unit = Unit::kNone;
  std::int64_t min = 0;
  std::int64_t max = std::int64_t{1} << 50;
};

using O = ServerOptions;
constexpr std::int64_t kYear = 365 * 24 * 3600;

const std::vector<Option>& Table() {
  static const auto& table = *new std::vector<Option>{
      {.name = "listen",
       .field = &O::listen,
       .help = "address to serve gRPC on: host:port, [ipv6]:port, unix:/path or "
               "unix-abstract:name; port 0 picks one; may be repeated"},
      {.name = "insecure_listen",
       .field = &O::insecure_listen,
       .help = "allow TCP addresses beyond loopback without client certificates"},
      {.name = "metrics_listen",
       .field = &O::metrics_listen,
       .help = "address of /metrics, /livez and /readyz, plain HTTP: host:port, or off"},
      {.name = "tls_cert", .field = &O::tls_cert, .help = "PEM file, the server's certificates"},
      {.name = "tls_key", .field = &O::tls_key, .help = "PEM file, the server's private key"},
      {.name = "tls_client_ca",
       .field = &O::tls_client_ca,
       .help = "PEM file, the authorities whose client certificates are required"},
      {.name = "backend",
       .field = &O::backend,
       .help = "what computes; auto takes cuda where a device is usable, else cpu",
       .choices = "auto|cpu|reference|cuda"},
      {.name = "io_threads",
       .field = &O::io_threads,
       .help = "threads that receive, score small chunks and send",
       .zero = "1 on up to 3 cores, else a quarter of the cores, at most 8",
       .max = 64},
      {.name = "cpu_threads",
       .field = &O::cpu_threads,
       .help = "worker threads that large chunks and backlog spill to",
       .zero = "the cores that io_threads leave, at least 1",
       .max = 1024},
      {.name = "spill_bytes",
       .field = &O::spill_bytes,
       .help = "chunks of at least this size go to a worker, if one is idle",
       .zero = "every chunk",
       .unit = Unit::kBytes},
      {.name = "global_budget_bytes",
       .field = &O::global_budget_bytes,
       .help = "request and reply tensors in memory, all tenants together",
       .unit = Unit::kBytes,
       .min = 1 << 20},
      {.name = "tenant_budget_bytes",
       .field = &O::tenant_budget_bytes,
       .help = "the part of global_budget_bytes that one tenant may fill",
       .zero = "all of it",
       .unit = Unit::kBytes},
      {.name = "stream_credit_bytes",
       .field = &O::stream_credit_bytes,
       .help = "bytes that a stream may have unanswered",
       .unit = Unit::kBytes,
       .min = 64 << 10},
      {.name = "stream_credit_items",
       .field = &O::stream_credit_items,
       .help = "items that a stream may have unanswered",
       .min = 1,
       .max = 1 << 20},
      {.name = "max_message_bytes",
       .field = &O::max_message_bytes,
       .help = "largest message received; larger ones end their stream",
       .unit = Unit::kBytes,
       .min = 64 << 10,
       .max = std::numeric_limits<std::int32_t>::max()},
      {.name = "max_chunk_bytes",
       .field = &O::max_chunk_bytes,
       .help = "tensor bytes that a chunk, and its reply, may have",
       .unit = Unit::kBytes,
       .min = 4 << 10,
       .max = std::numeric_limits<std::int32_t>::max()},
      {.name = "max_streams",
       .field = &O::max_streams,
       .help = "calls at once on one connection",
       .min = 1,
       .max = 1 << 20},
      {.name = "item_stall_timeout_s",
       .field = &O::item_stall_timeout_s,
       .help = "items whose chunks stop coming for this long expire",
       .zero = "never",
       .unit = Unit::kSeconds,
       .max = kYear},
      {.name = "slab_cache_bytes",
       .field = &O::slab_cache_bytes,
       .help = "reply memory kept for reuse",
       .zero = "none is kept",
       .unit = Unit::kBytes},
      {.name = "shared_memory_socket",
       .field = &O::shared_memory_socket,
       .help =
           "path of the Unix socket where clients on this host share memory, so that tensors need "
           "not travel, or off; none: the first unix:/path of listen with .memory after it, or "
           "off without one"},
      {.name = "shared_memory_session_regions",
       .field = &O::shared_memory_session_regions,
       .help = "regions that one client may share",
       .min = 1,
       .max = 4096},
      {.name = "shared_memory_session_bytes",
       .field = &O::shared_memory_session_bytes,
       .help = "bytes of the regions that one client may share",
       .unit = Unit::kBytes,
       .min = 4 << 10},
      {.name = "shared_memory_tenant_regions",
       .field = &O::shared_memory_tenant_regions,
       .help = "regions that all clients of one user of this machine may share",
       .min = 1,
       .max = 16384},
      {.name = "shared_memory_tenant_bytes",
       .field = &O::shared_memory_tenant_bytes,
       .help = "bytes of the regions that all clients of one user of this machine may share",
       .unit = Unit::kBytes,
       .min = 4 << 10},
      {.name = "batch_max_bytes",
       .field = &O::batch_max_bytes,
       .help = "a device batch closes at this size; larger chunks go alone",
       .unit = Unit::kBytes,
       .min = 4 << 10},
      {.name = "batch_max_age_us",
       .field = &O::batch_max_age_us,
       .help = "a device batch closes when its oldest chunk has waited this long",
       .zero = "at once",
       .unit = Unit::kMicroseconds,
       .max = 10'000'000},
      {.name = "batch_deadline_margin_us",
       .field = &O::batch_deadline_margin_us,
       .help = "a device batch closes this long before a deadline in it",
       .unit = Unit::kMicroseconds,
       .max = 10'000'000},
      {.name = "batch_queue_bytes",
       .field = &O::batch_queue_bytes,
       .help = "chunks that may wait for a device; beyond it they are refused",
       .zero = "half of global_budget_bytes",
       .unit = Unit::kBytes},
      {.name = "quality_dir",
       .field = &O::quality_dir,
       .help = "folder that annotation campaigns are kept in; without it there are none"},
      {.name = "quality_memory_bytes",
       .field = &O::quality_memory_bytes,
       .help = "memory that the analysis of one campaign may take",
       .unit = Unit::kBytes,
       .min = 1 << 20},
      {.name = "quality_max_campaigns",
       .field = &O::quality_max_campaigns,
       .help = "campaigns that a tenant may have",
       .min = 1,
       .max = 10000},
      {.name = "quality_alert_interval_s",
       .field = &O::quality_alert_interval_s,
       .help = "how often campaigns that changed are analysed for the alerts in the metrics",
       .zero = "only when a client asks for an analysis",
       .unit = Unit::kSeconds,
       .max = kYear},
      {.name = "drain_grace_s",
       .field = &O::drain_grace_s,
       .help = "after SIGTERM, keep accepting this long while reporting not ready, so that load "
               "balancers move on",
       .zero = "stop accepting at once",
       .unit = Unit::kSeconds,
       .max = 3600},
      {.name = "drain_timeout_s",
       .field = &O::drain_timeout_s,
       .help = "after the grace, how long items in flight may take to finish",
       .zero = "cancel them at once",
       .unit = Unit::kSeconds,
       .max = kYear},
      {.name = "log_level",
       .field = &O::log_level,
       .help = "what is logged",
       .choices = "debug|info|warning|error"},
      {.name = "config",
       .field = &O::config,
       .help = "file with lines `name = value` and # comments; the command line wins"},
      {.name = "help", .field = &O::help, .help = "print this and stop"},
      {.name = "version", .field = &O::version, .help = "print the version and stop"},
  };
  return table;
}

const Option* Find(absl::string_view name) {
  for (const Option& option : Table()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

bool IsBool(const Option& option) {
  return std::holds_alternative<bool ServerOptions::*>(option.field);
}

absl::Status Bad(absl::string_view name, absl::string_view rule, absl::string_view value) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", rule, "; was '", value, "'"));
}

absl::StatusOr<std::int64_t> ParseNumber(const Option& option, absl::string_view text) {
  absl::string_view digits = text;
  int shift = 0;
  absl::string_view rule = "must be a whole number";
  if (option.unit == Unit::kBytes) {
    rule = "must be a whole number of bytes, KiB, MiB or GiB";
    for (const auto& [suffix, s] :
         {std::pair<absl::string_view, int>{"KiB", 10}, {"MiB", 20}, {"GiB", 30}}) {
      if (absl::ConsumeSuffix(&digits, suffix)) {
        shift = s;
        break;
      }
    }
  }
  std::int64_t number = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(digits), &number)) {
    return Bad(option.name, rule, text);
  }
  if (number > (std::numeric_limits<std::int64_t>::max() >> shift) ||
      number << shift > option.max) {
    return Bad(option.name, absl::StrCat("must be at most ", option.max), text);
  }
  if (number << shift < option.min) {
    return Bad(option.name, absl::StrCat("must be at least ", option.min), text);
  }
  return number << shift;
}

// Sets one option; `first` = this source has not set it before, so lists start anew.
absl::Status Set(const Option& option, absl::string_view text, bool first, ServerOptions& options) {
  if (const auto* field = std::get_if<bool ServerOptions::*>(&option.field)) {
    if (text != "true" && text != "false") {
      return Bad(option.name, "must be true or false", text);
    }
    options.*(*field) = text == "true";
  } else if (const auto* field = std::get_if<std::int64_t ServerOptions::*>(&option.field)) {
    absl::StatusOr<std::int64_t> number = ParseNumber(option, text);
    if (!number.ok()) return number.status();
    options.*(*field) = *number;
  } else if (const auto* field = std::get_if<std::string ServerOptions::*>(&option.field)) {
    const std::vector<absl::string_view> choices = absl::StrSplit(option.choices, '|');
    if (!option.choices.empty() &&
        std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return Bad(option.name, absl::StrCat("must be one of ", option.choices), text);
    }
    options.*(*field) = std::string(text);
  } else {
    auto& list = options.*std::get<std::vector<std::string> ServerOptions::*>(option.field);
    if (first) list.clear();
    list.emplace_back(text);
  }
  return absl::OkStatus();
}

struct Setting {
  const Option* option;
  std::string value;
  std::string where;  // before an error's text: "" or "file:line: "
};

absl::StatusOr<std::vector<Setting>> ReadCommandLine(int argc, const char* const* argv) {
  std::vector<Setting> settings;
  for (int i = 1; i < argc; ++i) {
    absl::string_view text = argv[i];
    if (!absl::ConsumePrefix(&text, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", argv[i], "': options start with --; see --help"));
    }
    const std::size_t equals = text.find('=');
    const Option* option = Find(text.substr(0, equals));
    if (option == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("--", text, ": unknown option; see --help"));
    }
    if (equals != absl::string_view::npos) {
      settings.push_back({option, std::string(text.substr(equals + 1)), ""});
    } else if (IsBool(*option)) {
      settings.push_back({option, "true", ""});
    } else if (i + 1 < argc) {
      settings.push_back({option, argv[++i], ""});
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", text, ": needs a value"));
    }
  }
  return settings;
}

absl::StatusOr<std::vector<Setting>> ReadConfig(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("config: cannot read '", path, "'"));
  std::vector<Setting> settings;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string where = absl::StrCat(path, ":", number, ": ");
    const absl::string_view text =
        absl::StripAsciiWhitespace(absl::string_view(line).substr(0, line.find('#')));
    if (text.empty()) continue;
    const std::size_t equals = text.find('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "lines must be `name = value`; was '", text, "'"));
    }
    const absl::string_view name = absl::StripAsciiWhitespace(text.substr(0, equals));
    const Option* option = Find(name);
    if (option == nullptr || name == "config" || name == "help" || name == "version") {
      return absl::InvalidArgumentError(
          absl::StrCat(where, name, ": not an option of a config file"));
    }
    settings.push_back(
        {option, std::string(absl::StripAsciiWhitespace(text.substr(equals + 1))), where});
  }
  if (file.bad()) return absl::NotFoundError(absl::StrCat("config: cannot read '", path, "'"));
  return settings;
}

absl::Status Apply(const std::vector<Setting>& settings, ServerOptions& options) {
  std::set<const Option*> seen;
  for (const Setting& setting : settings) {
    const absl::Status status =
        Set(*setting.option, setting.value, seen.insert(setting.option).second, options);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(setting.where, status.message()));
    }
  }
  return absl::OkStatus();
}

std::string Number(const Option& option, std::int64_t value) {
  if (option.unit == Unit::kBytes && value != 0) {
    for (const auto& [suffix, shift] :
         {std::pair<absl::string_view, int>{"GiB", 30}, {"MiB", 20}, {"KiB", 10}}) {
      if (value % (std::int64_t{1} << shift) == 0) return absl::StrCat(value >> shift, suffix);
    }
  }
  return absl::StrCat(value);
}

absl::string_view Name(Unit unit) {
  switch (unit) {
    case Unit::kNone: return "number";
    case Unit::kBytes: return "bytes";
    case Unit::kSeconds: return "seconds";
    case Unit::kMicroseconds: return "microseconds";
  }
  return "";
}

// Makes it a path or "off".
absl::Status ResolveMemorySocket(ServerOptions& options) {
  constexpr std::size_t kLongest = 107;  // sockaddr_un
  std::string& path = options.shared_memory_socket;
  if (path == "off") return absl::OkStatus();
  if (!path.empty()) {
    if (path[0] == '/' && path.size() <= kLongest) return absl::OkStatus();
    return Bad("shared_memory_socket",
               absl::StrCat("must be an absolute path of at most ", kLongest, " bytes, or off"),
               path);
  }
  for (const std::string& text : options.listen) {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok() || address->kind != ListenAddress::Kind::kUnix) continue;
    path = absl::StrCat(address->path, ".memory");
    break;
  }
  if (path.empty() || path.size() > kLongest) path = "off";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerOptions> ParseServerOptions(int argc, const char* const* argv) {
  absl::StatusOr<std::vector<Setting>> command_line = ReadCommandLine(argc, argv);
  if (!command_line.ok()) return command_line.status();
  ServerOptions options;
  absl::Status status = Apply(*command_line, options);
  if (!status.ok()) return status;
  if (options.help || options.version) return options;
  if (!options.config.empty()) {
    absl::StatusOr<std::vector<Setting>> config = ReadConfig(options.config);
    if (!config.ok()) return config.status();
    options = ServerOptions();
    for (const auto& settings : {*config, *command_line}) {
      status = Apply(settings, options);
      if (!status.ok()) return status;
    }
  }
  status = ValidateAndResolve(options, static_cast<int>(std::thread::hardware_concurrency()));
  if (!status.ok()) return status;
  return options;
}

absl::Status ValidateAndResolve(ServerOptions& options, int cores) {
  for (const auto& [name, set] : {std::pair{"tls_cert", !options.tls_cert.empty()},
                                  std::pair{"tls_key", !options.tls_key.empty()}}) {
    if (!set && !(options.tls_cert.empty() && options.tls_key.empty())) {
      return Bad(name, "tls_cert and tls_key go together", "");
    }
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return Bad("tls_client_ca", "needs tls_cert and tls_key", options.tls_client_ca);
  }
  if (options.listen.empty()) return Bad("listen", "at least one address is needed", "");
  for (const std::string& text : options.listen) {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) return Bad("listen", address.status().message(), text);
    if (!address->local && options.tls_client_ca.empty() && !options.insecure_listen) {
      return Bad("listen",
                 "addresses beyond loopback need tls_cert, tls_key and tls_client_ca, or "
                 "insecure_listen=true",
                 text);
    }
  }
  if (absl::Status s = ResolveMemorySocket(options); !s.ok()) return s;
  if (options.metrics_listen != "off") {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(options.metrics_listen);
    if (!address.ok() || address->kind != ListenAddress::Kind::kTcp) {
      return Bad("metrics_listen", "must be host:port or off", options.metrics_listen);
    }
  }

  if (options.tenant_budget_bytes == 0) options.tenant_budget_bytes = options.global_budget_bytes;
  if (options.batch_queue_bytes == 0) options.batch_queue_bytes = options.global_budget_bytes / 2;
  cores = std::max(cores, 1);
  if (options.io_threads == 0) options.io_threads = cores <= 3 ? 1 : std::min(cores / 4, 8);
  if (options.cpu_threads == 0) {
    options.cpu_threads = std::max<std::int64_t>(cores - options.io_threads, 1);
  }

  // What must hold between options; the left one is at fault.
  constexpr std::int64_t kHeaderBytes = 64 << 10;  // of a message, beside its tensors
  const struct {
    absl::string_view name, bound;
    std::int64_t value, limit;
  } at_most[] = {
      {"tenant_budget_bytes", "global_budget_bytes", options.tenant_budget_bytes,
       options.global_budget_bytes},
      {"max_chunk_bytes", "max_message_bytes less 64KiB for headers", options.max_chunk_bytes,
       options.max_message_bytes - kHeaderBytes},
      {"max_chunk_bytes", "stream_credit_bytes less 64KiB for headers", options.max_chunk_bytes,
       options.stream_credit_bytes - kHeaderBytes},
  };
  for (const auto& rule : at_most) {
    if (rule.value > rule.limit) {
      return Bad(rule.name, absl::StrCat("must be at most ", rule.bound, " (", rule.limit, ")"),
                 absl::StrCat(rule.value));
    }
  }
  return absl::OkStatus();
}

std::string ServerOptionsHelp() {
  const ServerOptions defaults;
  std::string help =
      "softlossd scores soft labels: losses and gradients over gRPC.\n\n"
      "Options, as --name=value or --name value; sizes take KiB, MiB and GiB.\n";
  for (const Option& option : Table()) {
    std::string type, value;
    if (const auto* field = std::get_if<bool ServerOptions::*>(&option.field)) {
      type = "true|false";
      value = defaults.*(*field) ? "true" : "false";
    } else if (const auto* field = std::get_if<std::int64_t ServerOptions::*>(&option.field)) {
      type = std::string(Name(option.unit));
      value = Number(option, defaults.*(*field));
    } else if (const auto* field = std::get_if<std::string ServerOptions::*>(&option.field)) {
      type = option.choices.empty() ? std::string("text") : std::string(option.choices);
      value = defaults.*(*field);
    } else {
      type = "text, repeatable";
      value = absl::StrJoin(
          defaults.*std::get<std::vector<std::string> ServerOptions::*>(option.field), ",");
    }
    absl::StrAppend(&help, "\n  --", option.name, "  (", type, "; default ",
                    value.empty() ? "none" : value, ")\n      ", option.help);
    if (!option.zero.empty()) absl::StrAppend(&help, "; 0: ", option.zero);
    help += "\n";
  }
  return help;
}

std::vector<std::string> ServerOptionNames() {
  std::vector<std::string> names;
  for (const Option& option : Table()) names.emplace_back(option.name);
  return names;
}

}  // namespace softloss
