#include "tests/bench/server_process.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string_view>

namespace softloss {

ServerProcess::ServerProcess(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.data()));
  arguments.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(ends[1], STDOUT_FILENO);
    execv(arguments[0], arguments.data());
    std::perror(arguments[0]);
    _exit(127);
  }
  close(ends[1]);
  output_ = ends[0];

  constexpr std::string_view kListening = "listening ";
  std::string line;
  for (char c; read(output_, &c, 1) == 1;) {
    if (c != '\n') {
      line += c;
    } else if (line.rfind(kListening, 0) == 0) {
      address_ = line.substr(kListening.size());
      return;
    } else {
      line.clear();
    }
  }
  std::fprintf(stderr, "%s ended before it listened\n", arguments[0]);
  std::exit(1);
}

ServerProcess::~ServerProcess() {
  // Asked first, so that it ends what it has started itself.
  kill(pid_, SIGTERM);
  constexpr int kTries = 100;
  int tries = 0;
  while (waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (tries++ == kTries) kill(pid_, SIGKILL);
    usleep(100'000);
  }
  close(output_);
}

double ServerProcess::CpuSeconds() const {
  clockid_t clock;
  timespec used{};
  if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &used) != 0) std::abort();
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

double ServerProcess::ResidentBytes() const {
  double total_pages = 0, resident_pages = 0;
  std::ifstream("/proc/" + std::to_string(pid_) + "/statm") >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

std::string SiblingProgram(const std::string& name) {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  if (size < 0) std::abort();
  const std::string self(path, static_cast<std::size_t>(size));
  return self.substr(0, self.rfind('/') + 1) + name;
}

}  // namespace softloss
