#include "client/python/binding/completer.h"

#include <nanobind/nanobind.h>

#include <utility>

namespace softloss::python {

Completer& Completer::Get() {
  static auto* const completer = new Completer;  // outlives every client
  return *completer;
}

void Completer::Post(std::function<void()> task) {
  std::lock_guard lock(mutex_);
  if (stopping_) {
    new std::function<void()>(std::move(task));
    return;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  tasks_.push_back(std::move(task));
  wake_.notify_one();
}

void Completer::Stop() {
  std::thread thread;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    thread = std::move(thread_);
  }
  wake_.notify_one();
  if (thread.joinable()) thread.join();
}

void Completer::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::vector<std::function<void()>> tasks = std::exchange(tasks_, {});
    lock.unlock();
    {
      nanobind::gil_scoped_acquire gil;
      for (std::function<void()>& task : tasks) {
        task();
        task = nullptr;  // what it holds goes with the GIL held
      }
    }
    lock.lock();
  }
}

}  // namespace softloss::python
