#include "server/listen_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace softloss {
namespace {

constexpr std::size_t kMaxPath = sizeof(sockaddr_un{}.sun_path) - 1;

// By number, or by the one name that resolves to loopback everywhere. Other names count as reachable:
// what they resolve to is not known here, and may change.
bool IsLoopback(const std::string& host) {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& whole) {
  absl::string_view text = whole;
  ListenAddress address;
  const bool is_abstract = absl::ConsumePrefix(&text, "unix-abstract:");
  if (is_abstract || absl::ConsumePrefix(&text, "unix:")) {
    address.kind = is_abstract ? ListenAddress::Kind::kUnixAbstract : ListenAddress::Kind::kUnix;
    if (text.empty() || text.size() > kMaxPath) {
      return absl::InvalidArgumentError(
          absl::StrCat("a Unix socket's name must have 1 to ", kMaxPath, " bytes"));
    }
    if (!is_abstract && text[0] != '/') {
      return absl::InvalidArgumentError("a Unix socket's path must start with /");
    }
    address.path = std::string(text);
    return address;
  }

  const std::size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return absl::InvalidArgumentError(
        "must be host:port with a port of 0 to 65535, unix:/path or unix-abstract:name");
  }
  absl::string_view host = text.substr(0, colon);
  const bool brackets = absl::ConsumePrefix(&host, "[");
  if (brackets != absl::ConsumeSuffix(&host, "]") ||
      brackets != (host.find(':') != absl::string_view::npos) || host.empty()) {
    return absl::InvalidArgumentError("IPv6 addresses, and only they, go in brackets");
  }
  address.host = std::string(host);
  address.local = IsLoopback(address.host);
  return address;
}

}  // namespace softloss
