// Links all of the client, and finds out that there is no server.
#include <iostream>

#include "softloss/client.h"

int main() {
  softloss::ClientOptions options;
  options.connect_timeout = absl::Milliseconds(20);
  options.initial_backoff = absl::Milliseconds(1);
  const auto client = softloss::Client::Connect("unix:no-such-socket", options);
  std::cout << client.status() << "\n";
  return absl::IsDeadlineExceeded(client.status()) && softloss::IsRetryable(client.status()) ? 0
                                                                                             : 1;
}
