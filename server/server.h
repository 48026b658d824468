// The server: everything that ServerOptions describe, wired together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/server_options.h"

namespace softloss {

// One thread owns it. Not restartable.
class Server {
 public:
  // Binds, warms up and serves. The status names the option that could not be honoured.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);

  // Shuts down at once if Shutdown was not called.
  ~Server();

  // As bound, in the order of options.listen: "127.0.0.1:41234", "unix:/run/softloss.sock".
  const std::vector<std::string>& addresses() const;
  // "127.0.0.1:9464", or empty when off.
  std::string metrics_address() const;
  std::string backend() const;
  std::string numerics_id() const;

  // Call about once a second: expires items whose chunks stopped coming.
  void Tick();

  // NOT_SERVING first; then new items are refused, those in flight are finished, and streams end. What
  // is left at the drain timeout is cancelled. Returns whether all was finished in time.
  bool Shutdown();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace softloss
