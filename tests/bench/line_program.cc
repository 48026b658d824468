#include "tests/bench/line_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace softloss {

LineProgram::LineProgram(const std::vector<std::string>& command) : name_(command[0]) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.data()));
  }
  arguments.push_back(nullptr);
  int input[2], output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) std::abort();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execv(arguments[0], arguments.data());
    std::perror(arguments[0]);
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  to_ = fdopen(input[1], "w");
  from_ = fdopen(output[0], "r");
  ReadLine();
}

LineProgram::~LineProgram() {
  std::fclose(to_);
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  std::fclose(from_);
}

std::string LineProgram::Ask(const std::string& line) {
  std::fprintf(to_, "%s\n", line.c_str());
  std::fflush(to_);
  return ReadLine();
}

std::string LineProgram::ReadLine() {
  char line[256];
  if (std::fgets(line, sizeof line, from_) == nullptr) {
    std::fprintf(stderr, "%s ended early\n", name_.c_str());
    std::exit(1);
  }
  return line;
}

}  // namespace softloss
