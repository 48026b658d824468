// Addresses as --listen takes them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace softloss {

struct ListenAddress {
  enum class Kind : std::uint8_t { kTcp, kUnix, kUnixAbstract };
  Kind kind = Kind::kTcp;
  std::string host;   // TCP: without brackets
  int port = 0;       // TCP
  std::string path;   // Unix: the path, or the abstract name
  bool local = true;  // cannot be reached from another machine
};

// host:port, [ipv6]:port, unix:/absolute/path, unix-abstract:name. INVALID_ARGUMENT with the rule
// that was broken.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);

}  // namespace softloss
