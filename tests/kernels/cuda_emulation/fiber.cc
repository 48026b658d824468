// Longjmp may go to another stack here, which the fortified one takes for a mistake.
#undef _FORTIFY_SOURCE
#include "tests/kernels/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define SOFTLOSS_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define SOFTLOSS_ADDRESS_SANITIZER 1
#endif
#endif

namespace cuda_emulation {
namespace {

#ifdef SOFTLOSS_ADDRESS_SANITIZER
constexpr std::size_t kStackSize = 256 << 10;
#else
constexpr std::size_t kStackSize = 64 << 10;
#endif

void StartSwitch([[maybe_unused]] void** save, [[maybe_unused]] const void* stack,
                 [[maybe_unused]] std::size_t size) {
#ifdef SOFTLOSS_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(save, stack, size);
#endif
}
void FinishSwitch([[maybe_unused]] void* save, [[maybe_unused]] const void** stack,
                  [[maybe_unused]] std::size_t* size) {
#ifdef SOFTLOSS_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(save, stack, size);
#endif
}

}  // namespace

Fiber::Fiber() {
  void* stack = mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) std::abort();
  stack_ = static_cast<std::byte*>(stack);
}

Fiber::~Fiber() { munmap(stack_, kStackSize); }

void Fiber::Start(const std::function<void()>* body) {
  body_ = body;
  if (!done_) entered_ = false;  // what was on the stack is abandoned
  done_ = false;
}

bool Fiber::Resume() {
  StartSwitch(&outside_fake_stack_, stack_, kStackSize);
  if (_setjmp(outside_) == 0) {
    if (entered_) _longjmp(inside_, 1);
    // Only the first time: it sets signal masks, which is slow.
    entered_ = true;
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = kStackSize;
    context_.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::Enter), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
    setcontext(&context_);
  }
  FinishSwitch(outside_fake_stack_, nullptr, nullptr);
  return done_;
}

void Fiber::Pause() { Leave(); }

void Fiber::Leave() {
  StartSwitch(&inside_fake_stack_, outside_stack_, outside_stack_size_);
  if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
  FinishSwitch(inside_fake_stack_, &outside_stack_, &outside_stack_size_);
}

void Fiber::Enter(unsigned high, unsigned low) {
  const auto self = static_cast<std::uintptr_t>(high) << 32 | low;
  reinterpret_cast<Fiber*>(self)->Loop();
}

void Fiber::Loop() {
  FinishSwitch(nullptr, &outside_stack_, &outside_stack_size_);
  for (;;) {
    (*body_)();
    done_ = true;
    Leave();
  }
}

}  // namespace cuda_emulation
