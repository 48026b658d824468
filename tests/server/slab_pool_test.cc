#include "server/slab_pool.h"

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace softloss {
namespace {

TEST(SlabPool, SizesRoundUpToClassesAndAreAligned) {
  SlabPool pool({});
  struct Case {
    std::size_t size, capacity;
  };
  for (const Case& c : {Case{0, 4096},
                        {1, 4096},
                        {4096, 4096},
                        {4097, 8192},
                        {100'000, 131072},
                        {2 << 20, 2 << 20},
                        {(2 << 20) + 1, 4 << 20}}) {
    Slab slab = pool.Allocate(c.size);
    ASSERT_TRUE(slab);
    EXPECT_EQ(slab.size(), c.size);
    EXPECT_EQ(slab.capacity(), c.capacity);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slab.data()) % 64, 0u);
    std::memset(slab.data(), 0xab, slab.capacity());  // all of it is ours
    EXPECT_EQ(pool.stats().in_use_bytes, static_cast<std::int64_t>(c.capacity));
  }
  EXPECT_EQ(pool.stats().in_use_bytes, 0);
}

TEST(SlabPool, ReusesWithinAClassOnly) {
  SlabPool pool({});
  void* first = pool.Allocate(5000).data();
  EXPECT_EQ(pool.Allocate(8192).data(), first);
  EXPECT_EQ(pool.stats().allocations, 1);
  Slab other = pool.Allocate(4096);
  EXPECT_EQ(pool.stats().allocations, 2);
  EXPECT_EQ(pool.stats().cached_bytes, 8192);
}

TEST(SlabPool, DetachedSlabIsNotReusedUntilReturned) {
  SlabPool pool({});
  Slab slab = pool.Allocate(4096);
  void* data = slab.Detach();
  EXPECT_FALSE(slab);
  EXPECT_EQ(slab.size(), 0u);
  slab = Slab();  // gives nothing back
  EXPECT_EQ(pool.stats().in_use_bytes, 4096);
  Slab second = pool.Allocate(4096);
  EXPECT_NE(second.data(), data);
  SlabPool::Return(data);
  EXPECT_EQ(pool.stats().cached_bytes, 4096);
  EXPECT_EQ(pool.Allocate(4096).data(), data);
}

TEST(SlabPool, CacheIsBounded) {
  SlabPool pool({.max_cached_bytes = 10'000});
  {
    Slab a = pool.Allocate(4096), b = pool.Allocate(4096), c = pool.Allocate(4096);
    Slab large = pool.Allocate(1 << 20);
  }
  EXPECT_EQ(pool.stats().cached_bytes, 8192);
  EXPECT_EQ(pool.stats().in_use_bytes, 0);
}

TEST(SlabPool, MovesTransferOwnership) {
  SlabPool pool({});
  Slab a = pool.Allocate(4096);
  void* data = a.data();
  Slab b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): moved-from slabs are empty by contract
  EXPECT_EQ(b.data(), data);
  b = pool.Allocate(8192);  // returns the first
  EXPECT_EQ(pool.stats().in_use_bytes, 8192);
  EXPECT_EQ(pool.stats().cached_bytes, 4096);
}

TEST(SlabPool, OutstandingSlabsKeepItsMemoryAlive) {
  void* data;
  {
    SlabPool pool({});
    data = pool.Allocate(4096).Detach();
  }
  std::memset(data, 1, 4096);
  SlabPool::Return(data);
}

TEST(SlabPool, AllMemoryComesFromAndGoesBackToTheGivenAllocator) {
  int live = 0;
  {
    SlabPool pool({.allocate =
                       [&](std::size_t size) {
                         ++live;
                         return std::aligned_alloc(64, size);
                       },
                   .release =
                       [&](void* memory) {
                         --live;
                         std::free(memory);
                       }});
    Slab a = pool.Allocate(1), b = pool.Allocate(10'000);
    EXPECT_EQ(live, 2);
  }
  EXPECT_EQ(live, 0);
}

TEST(SlabPool, OutOfMemoryGivesAnEmptySlab) {
  SlabPool pool(
      {.allocate = [](std::size_t) -> void* { return nullptr; }, .release = [](void*) {}});
  EXPECT_FALSE(pool.Allocate(4096));
  EXPECT_EQ(pool.stats().in_use_bytes, 0);
  SlabPool heap({});
  EXPECT_FALSE(heap.Allocate(std::size_t{1} << 60));
}

// Slabs filled by some threads are checked and returned by others, as a transport does it. A slab
// handed out twice would show as a wrong byte (and as a race under ThreadSanitizer).
TEST(SlabPool, ThreadsNeverShareASlab) {
  SlabPool pool({.max_cached_bytes = 1 << 20});
  std::mutex mutex;
  std::condition_variable filled;
  std::deque<std::pair<void*, unsigned char>> sent;  // guarded by mutex
  int senders = 2;                                   // guarded by mutex
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5'000; ++i) {
        const auto mark = static_cast<unsigned char>(i * 2 + t);
        Slab slab = pool.Allocate(i % 3 == 0 ? 3000 : 6000);
        std::memset(slab.data(), mark, 3000);
        std::lock_guard lock(mutex);
        sent.emplace_back(slab.Detach(), mark);
        filled.notify_one();
      }
      std::lock_guard lock(mutex);
      --senders;
      filled.notify_all();
    });
    threads.emplace_back([&] {
      for (;;) {
        std::unique_lock lock(mutex);
        filled.wait(lock, [&] { return !sent.empty() || senders == 0; });
        if (sent.empty()) return;
        const auto [data, mark] = sent.front();
        sent.pop_front();
        lock.unlock();
        const auto* bytes = static_cast<unsigned char*>(data);
        for (int i = 0; i < 3000; ++i) wrong += bytes[i] != mark;
        SlabPool::Return(data);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool.stats().in_use_bytes, 0);
  EXPECT_LE(pool.stats().cached_bytes, 1 << 20);
}

}  // namespace
}  // namespace softloss
