#include "server/slab_pool.h"

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
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
constexpr std::size_t kHeaderBytes = 64;      // keeps the data behind it aligned

int ClassOf(std::size_t size) {
  const int log2 = size <= 1 ? 0 : std::bit_width(size - 1);
  return log2 < kSmallestLog2 ? 0 : log2 - kSmallestLog2;
}

constexpr std::size_t Capacity(int size_class) {
  return std::size_t{1} << (size_class + kSmallestLog2);
}

}  // namespace

struct SlabPool::Core {
  struct FreeList {
    std::mutex mutex;
    std::vector<std::byte*> slabs;  // guarded by mutex
  };

  explicit Core(Options o) : options(std::move(o)) {}
  ~Core() {
    for (FreeList& list : lists) {
      for (std::byte* data : list.slabs) Free(data);
    }
  }

  void Free(std::byte* data) { options.release(data - kHeaderBytes); }

  const Options options;
  std::array<FreeList, kClasses> lists;
  std::atomic<std::int64_t> cached_bytes{0};
  std::atomic<std::int64_t> in_use_bytes{0};
  std::atomic<std::int64_t> allocations{0};
};

// Lies before the data while a slab is in use; the reference keeps the pool alive for its return.
struct SlabPool::Header {
  std::shared_ptr<Core> core;
  int size_class;

  static Header* Of(void* data) {
    return std::launder(reinterpret_cast<Header*>(static_cast<std::byte*>(data) - kHeaderBytes));
  }
};

Slab::Slab(Slab&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Slab& Slab::operator=(Slab&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) SlabPool::Return(data_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Slab::~Slab() {
  if (data_ != nullptr) SlabPool::Return(data_);
}

std::size_t Slab::capacity() const {
  return data_ == nullptr ? 0 : Capacity(SlabPool::Header::Of(data_)->size_class);
}

void* Slab::Detach() {
  size_ = 0;
  return std::exchange(data_, nullptr);
}

SlabPool::SlabPool(Options options) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  if (!options.allocate) {
    options.allocate = [](std::size_t size) { return std::aligned_alloc(64, size); };
    options.release = [](void* memory) { std::free(memory); };
  }
  core_ = std::make_shared<Core>(std::move(options));
}

SlabPool::~SlabPool() = default;

Slab SlabPool::Allocate(std::size_t size) {
  const int size_class = ClassOf(size);
  if (size_class >= kClasses) return Slab();
  const auto capacity = static_cast<std::int64_t>(Capacity(size_class));
  std::byte* data = nullptr;
  {
    Core::FreeList& list = core_->lists[size_class];
    std::lock_guard lock(list.mutex);
    if (!list.slabs.empty()) {
      data = list.slabs.back();  // the warmest
      list.slabs.pop_back();
    }
  }
  if (data != nullptr) {
    core_->cached_bytes.fetch_sub(capacity, std::memory_order_relaxed);
    ASAN_UNPOISON_MEMORY_REGION(data, Capacity(size_class));
  } else {
    void* memory = core_->options.allocate(kHeaderBytes + Capacity(size_class));
    if (memory == nullptr) return Slab();
    data = static_cast<std::byte*>(memory) + kHeaderBytes;
    core_->allocations.fetch_add(1, std::memory_order_relaxed);
  }
  core_->in_use_bytes.fetch_add(capacity, std::memory_order_relaxed);
  new (data - kHeaderBytes) Header{core_, size_class};
  return Slab(data, size);
}

void SlabPool::Return(void* memory) {
  std::byte* data = static_cast<std::byte*>(memory);
  Header* header = Header::Of(data);
  const std::shared_ptr<Core> core = std::move(header->core);
  const int size_class = header->size_class;
  header->~Header();
  const auto capacity = static_cast<std::int64_t>(Capacity(size_class));
  core->in_use_bytes.fetch_sub(capacity, std::memory_order_relaxed);
  // Claimed before it is cached, so that the limit holds at every moment.
  if (core->cached_bytes.fetch_add(capacity, std::memory_order_relaxed) + capacity >
      static_cast<std::int64_t>(core->options.max_cached_bytes)) {
    core->cached_bytes.fetch_sub(capacity, std::memory_order_relaxed);
    core->Free(data);
    return;
  }
  // Under AddressSanitizer, a transport that still reads a returned slab is caught.
  ASAN_POISON_MEMORY_REGION(data, Capacity(size_class));
  Core::FreeList& list = core->lists[size_class];
  std::lock_guard lock(list.mutex);
  list.slabs.push_back(data);
}

SlabPool::Stats SlabPool::stats() const {
  return {.cached_bytes = core_->cached_bytes.load(std::memory_order_relaxed),
          .in_use_bytes = core_->in_use_bytes.load(std::memory_order_relaxed),
          .allocations = core_->allocations.load(std::memory_order_relaxed)};
}

}  // namespace softloss
