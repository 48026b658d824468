// A server as a child process.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace softloss {

// Starts `command` and waits for its line `listening <address>`; ends the process with a message if
// none comes. The child dies with this object, or with this process.
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<std::string>& command);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& address() const { return address_; }

  // Of all its threads so far, from the operating system's accounting.
  double CpuSeconds() const;
  // Its resident memory at present.
  double ResidentBytes() const;

 private:
  pid_t pid_ = -1;
  int output_ = -1;  // kept open, so that the child can go on printing
  std::string address_;
};

// The path of a program that was built beside this one.
std::string SiblingProgram(const std::string& name);

}  // namespace softloss
