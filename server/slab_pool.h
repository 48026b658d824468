// Reply memory: aligned, recycled, and safe to hand to a transport that frees it on its own thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace softloss {

class SlabPool;

// A piece of memory of at least the size asked for, 64-byte aligned, contents undefined. Goes back to
// its pool when destroyed, unless detached. Move-only.
class Slab {
 public:
  Slab() = default;
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&& other) noexcept;
  ~Slab();

  // False for a default-constructed, moved-from or detached slab, and when memory ran out.
  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }  // as asked for
  std::size_t capacity() const;

  // Gives up ownership and returns data(); SlabPool::Return takes it back.
  void* Detach();

 private:
  friend class SlabPool;
  Slab(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Slabs in power-of-two sizes from 4 KiB. Thread-safe. Slabs may outlive the pool object.
class SlabPool {
 public:
  struct Options {
    std::size_t max_cached_bytes = std::size_t{256} << 20;  // beyond it, returned slabs are freed
    // Memory of `size` bytes aligned to 64, or null; and its release. For memory that a device needs
    // pinned. Default: the heap.
    std::function<void*(std::size_t size)> allocate = nullptr;
    std::function<void(void*)> release = nullptr;
  };

  struct Stats {
    std::int64_t cached_bytes = 0;
    std::int64_t in_use_bytes = 0;
    std::int64_t allocations = 0;  // of fresh memory, since the start
  };

  explicit SlabPool(Options options);
  ~SlabPool();
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  // An empty slab (see operator bool) if memory ran out.
  Slab Allocate(std::size_t size);

  // Takes back what Slab::Detach returned. Any thread; its signature is that of a gRPC slice's
  // destroy callback. Holds a lock for a few instructions and calls nothing under it.
  static void Return(void* data);

  Stats stats() const;

 private:
  friend class Slab;
  struct Core;
  struct Header;

  std::shared_ptr<Core> core_;
};

}  // namespace softloss
