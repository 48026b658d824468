// A function with a stack of its own, which may stop in the middle and be resumed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace cuda_emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // What the next Resume() starts. Only when nothing is running, or what runs is to be abandoned.
  void Start(const std::function<void()>* body);

  // Runs until Pause() or the end. Called from outside; true at the end.
  bool Resume();

  // Called inside: Resume() returns.
  void Pause();

 private:
  static void Enter(unsigned high, unsigned low);
  [[noreturn]] void Loop();
  void Leave();

  std::byte* stack_;
  ucontext_t context_;
  jmp_buf inside_, outside_;
  const std::function<void()>* body_ = nullptr;
  bool entered_ = false;
  bool done_ = true;
  // The address sanitizer's: of the stacks left.
  void* inside_fake_stack_ = nullptr;
  void* outside_fake_stack_ = nullptr;
  const void* outside_stack_ = nullptr;
  std::size_t outside_stack_size_ = 0;
};

}  // namespace cuda_emulation
