// The HTTP port for Prometheus and for probes: /metrics, /livez, /readyz.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace softloss {

class MetricsHttp {
 public:
  // Called from HTTP threads, until the object is destroyed.
  struct Handlers {
    std::function<std::string()> metrics;  // the text exposition
    std::function<absl::Status()> ready;   // OK, or why not: shown by /readyz with 503
  };

  // `address` is host:port (IPv6 in brackets), the host an IP address; port 0 picks one.
  // INVALID_ARGUMENT for an address that is none; UNAVAILABLE if it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<MetricsHttp>> Start(const std::string& address,
                                                            Handlers handlers);
  // Waits for requests in progress.
  ~MetricsHttp();
  MetricsHttp(const MetricsHttp&) = delete;
  MetricsHttp& operator=(const MetricsHttp&) = delete;

  // host:port, with the port that was bound.
  const std::string& address() const;

 private:
  struct Impl;
  explicit MetricsHttp(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace softloss
