// Brings finished requests to Python without ever making a thread of the client wait for the GIL.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace softloss::python {

// One thread for the whole process, which takes the GIL once for all that has finished meanwhile.
// Started by the first Post.
class Completer {
 public:
  static Completer& Get();

  // Runs `task` with the GIL held, in order of posting. Does not block. Thread-safe. After Stop the
  // task, and what it holds, is leaked: the interpreter is going away.
  void Post(std::function<void()> task);

  // Runs what was posted, and ends the thread. Call without the GIL.
  void Stop();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace softloss::python
