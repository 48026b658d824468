// One line a message on standard error: time, level, text. Never tensor values.
#pragma once

#include <string_view>

namespace softloss {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// Messages below `level` are dropped. Thread-safe.
void SetLogLevel(LogLevel level);
// "debug", "info", "warning", "error"; anything else is info.
LogLevel ParseLogLevel(std::string_view name);
// Thread-safe.
void Log(LogLevel level, std::string_view message);

}  // namespace softloss
