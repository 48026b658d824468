#include "server/slab_pool.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SOFTLOSS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SOFTLOSS_ASAN 1
#endif
#endif
#ifdef SOFTLOSS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace softloss {
namespace {

constexpr int kSmallestLog2 = 12;
constexpr int kClasses = 40 - kSmallestLog2;  // up to 512 GiB: what is beyond is not a reply

int ClassOf(std::size_t size) {
  const int log2 = size <= 1 ? 0 : std::bit_width(size - 1);
  return log2 < kSmallestLog2 ? 0 : log2 - kSmallestLog2;
}

constexpr std::size_t Capacity(int size_class) {
  return std::size_t{1} << (size_class + kSmallestLog2);
}

void* Obtain(std::size_t size) {
  if (size < SlabPool::kMappedBytes) return std::aligned_alloc(64, size);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void Release(void* memory, std::size_t size) {
  if (size < SlabPool::kMappedBytes) {
    std::free(memory);
  } else {
    munmap(memory, size);
  }
}

}  // namespace

struct SlabPool::Core {
  struct FreeList {
    std::mutex mutex;
    std::vector<SlabMemory*> slabs;  // guarded by mutex
  };

  explicit Core(Options o) : options(std::move(o)) {}
  ~Core();

  const Options options;
  std::array<FreeList, kClasses> lists;
  std::atomic<std::int64_t> cached_bytes{0};
  std::atomic<std::int64_t> in_use_bytes{0};
  std::atomic<std::int64_t> allocations{0};
};

// Of a slab that is in use or cached.
struct SlabMemory {
  std::byte* const data;
  const int size_class;
  std::shared_ptr<SlabPool::Core> core;  // while it is in use: keeps the pool alive for its return

  static void Free(SlabMemory* memory, const SlabPool::Core& core) {
    core.options.release(memory->data, Capacity(memory->size_class));
    delete memory;
  }
};

SlabPool::Core::~Core() {
  for (FreeList& list : lists) {
    for (SlabMemory* memory : list.slabs) {
      ASAN_UNPOISON_MEMORY_REGION(memory->data, Capacity(memory->size_class));
      SlabMemory::Free(memory, *this);
    }
  }
}

Slab::Slab(Slab&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Slab& Slab::operator=(Slab&& other) noexcept {
  if (this != &other) {
    if (memory_ != nullptr) SlabPool::Return(memory_);
    memory_ = std::exchange(other.memory_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Slab::~Slab() {
  if (memory_ != nullptr) SlabPool::Return(memory_);
}

std::byte* Slab::data() const { return memory_ == nullptr ? nullptr : memory_->data; }

std::size_t Slab::capacity() const {
  return memory_ == nullptr ? 0 : Capacity(memory_->size_class);
}

void* Slab::Detach() {
  size_ = 0;
  return std::exchange(memory_, nullptr);
}

SlabPool::SlabPool(Options options) {
  if (!options.allocate) {
    options.allocate = Obtain;
    options.release = Release;
  }
  core_ = std::make_shared<Core>(std::move(options));
}

SlabPool::~SlabPool() = default;

Slab SlabPool::Allocate(std::size_t size) {
  const int size_class = ClassOf(size);
  if (size_class >= kClasses) return Slab();
  const auto capacity = static_cast<std::int64_t>(Capacity(size_class));
  SlabMemory* memory = nullptr;
  {
    Core::FreeList& list = core_->lists[size_class];
    std::lock_guard lock(list.mutex);
    if (!list.slabs.empty()) {
      memory = list.slabs.back();  // the warmest
      list.slabs.pop_back();
    }
  }
  if (memory != nullptr) {
    core_->cached_bytes.fetch_sub(capacity, std::memory_order_relaxed);
    ASAN_UNPOISON_MEMORY_REGION(memory->data, Capacity(size_class));
  } else {
    void* fresh = core_->options.allocate(Capacity(size_class));
    if (fresh == nullptr) return Slab();
    memory = new SlabMemory{static_cast<std::byte*>(fresh), size_class, nullptr};
    core_->allocations.fetch_add(1, std::memory_order_relaxed);
  }
  core_->in_use_bytes.fetch_add(capacity, std::memory_order_relaxed);
  memory->core = core_;
  return Slab(memory, size);
}

void SlabPool::Return(void* detached) {
  auto* const memory = static_cast<SlabMemory*>(detached);
  const std::shared_ptr<Core> core = std::move(memory->core);
  const auto capacity = static_cast<std::int64_t>(Capacity(memory->size_class));
  core->in_use_bytes.fetch_sub(capacity, std::memory_order_relaxed);
  // Claimed before it is cached, so that the limit holds at every moment.
  if (core->cached_bytes.fetch_add(capacity, std::memory_order_relaxed) + capacity >
      static_cast<std::int64_t>(core->options.max_cached_bytes)) {
    core->cached_bytes.fetch_sub(capacity, std::memory_order_relaxed);
    SlabMemory::Free(memory, *core);
    return;
  }
  // Under AddressSanitizer, a transport that still reads a returned slab is caught.
  ASAN_POISON_MEMORY_REGION(memory->data, Capacity(memory->size_class));
  Core::FreeList& list = core->lists[memory->size_class];
  std::lock_guard lock(list.mutex);
  list.slabs.push_back(memory);
}

SlabPool::Stats SlabPool::stats() const {
  return {.cached_bytes = core_->cached_bytes.load(std::memory_order_relaxed),
          .in_use_bytes = core_->in_use_bytes.load(std::memory_order_relaxed),
          .allocations = core_->allocations.load(std::memory_order_relaxed)};
}

}  // namespace softloss
