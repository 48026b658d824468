// softlossd: scores soft labels. --help lists the options.
//
// Prints on standard output, each on a line of its own and once it is true:
//   listening ADDRESS      for each --listen, as bound
//   metrics http://ADDRESS/metrics
//   ready
// Exits 0 after a complete drain, 1 if it could not start or had to cancel something, 2 for bad options.

#include <malloc.h>
#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/server.h"
#include "server/server_options.h"

namespace {

// Messages of megabytes would otherwise be mapped and unmapped each time.
void PinMallocThresholds() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

}  // namespace

int main(int argc, char** argv) {
  PinMallocThresholds();
  absl::StatusOr<softloss::ServerOptions> options = softloss::ParseServerOptions(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "softlossd: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(softloss::ServerOptionsHelp().c_str(), stdout);
    return 0;
  }
  if (options->version) {
    std::puts("softlossd " SOFTLOSS_VERSION);
    return 0;
  }
  softloss::SetLogLevel(softloss::ParseLogLevel(options->log_level));

  // Every thread inherits the mask; only this one takes the signals, between ticks.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  absl::StatusOr<std::unique_ptr<softloss::Server>> server = softloss::Server::Start(*options);
  if (!server.ok()) {
    std::fprintf(stderr, "softlossd: %s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  for (const std::string& address : (*server)->addresses()) {
    std::printf("listening %s\n", address.c_str());
  }
  if (const std::string address = (*server)->metrics_address(); !address.empty()) {
    std::printf("metrics http://%s/metrics\n", address.c_str());
  }
  std::puts("ready");
  std::fflush(stdout);
  softloss::Log(softloss::LogLevel::kInfo, absl::StrCat("softlossd " SOFTLOSS_VERSION " serves as ",
                                                        (*server)->numerics_id()));

  const timespec second{.tv_sec = 1, .tv_nsec = 0};
  int signal;
  while ((signal = sigtimedwait(&signals, nullptr, &second)) < 0) (*server)->Tick();
  softloss::Log(softloss::LogLevel::kInfo, absl::StrCat("signal ", signal, ": draining"));
  const bool finished = (*server)->Shutdown();
  softloss::Log(softloss::LogLevel::kInfo,
                finished ? "drained" : "the drain timed out; what was left was cancelled");
  return finished ? 0 : 1;
}
