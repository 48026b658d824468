// A child process that answers each line with a line.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <vector>

namespace softloss {

// Ends the process with a message if the child ends early. The child dies with this object.
class LineProgram {
 public:
  // Starts `command` and waits for its first line, which says that it is ready.
  explicit LineProgram(const std::vector<std::string>& command);
  ~LineProgram();
  LineProgram(const LineProgram&) = delete;
  LineProgram& operator=(const LineProgram&) = delete;

  std::string Ask(const std::string& line);

 private:
  std::string ReadLine();

  std::string name_;
  pid_t pid_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace softloss
