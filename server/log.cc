#include "server/log.h"

#include <atomic>
#include <cstdio>
#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

std::atomic<int> lowest{static_cast<int>(LogLevel::kInfo)};

constexpr const char* kNames[] = {"debug", "info", "warning", "error"};

}  // namespace

void SetLogLevel(LogLevel level) { lowest = static_cast<int>(level); }

LogLevel ParseLogLevel(std::string_view name) {
  for (int i = 0; i < 4; ++i) {
    if (kNames[i] == name) return static_cast<LogLevel>(i);
  }
  return LogLevel::kInfo;
}

void Log(LogLevel level, std::string_view message) {
  if (static_cast<int>(level) < lowest) return;
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char time[32];
  std::strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%SZ", &utc);
  // One call, so that lines of several threads do not mix.
  const std::string line =
      absl::StrCat(time, " ", kNames[static_cast<int>(level)], " ", std::string(message), "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace softloss
