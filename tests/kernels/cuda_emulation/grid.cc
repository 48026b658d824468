#include "tests/kernels/cuda_emulation/grid.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/kernels/cuda_emulation/fiber.h"

cuda_emulation::Dimensions threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kCanary = 64;
constexpr std::byte kRubbish{0xF7};  // a large negative number, or a NaN of half precision
constexpr std::byte kUntouched{0xA5};

std::string At(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

// Where some threads wait until all of `size` have come.
struct Barrier {
  unsigned size = 0;
  unsigned arrived = 0;
  std::uint64_t round = 0;
  std::source_location where;

  // True if that completes the round.
  bool Arrive() {
    if (++arrived < size) return false;
    arrived = 0;
    ++round;
    return true;
  }
};

struct Copy {
  std::byte* to;
  const std::byte* from;
  std::size_t size;
};

struct Thread {
  unsigned index = 0;  // in the block
  Fiber fiber;
  bool done = false;
  // Waits until the barrier's round is no longer this one.
  const Barrier* barrier = nullptr;
  std::uint64_t round = 0;
  std::source_location where;
  std::uint64_t cluster_round = 0;  // the one it arrived at, for the wait
  std::vector<std::vector<Copy>> copies;

  bool Ready() const { return !done && (barrier == nullptr || barrier->round != round); }
};

struct Warp {
  Barrier barrier;
  std::array<std::array<std::uint64_t, kWarp>, 2> values;  // of even and odd rounds
  unsigned first = 0;                                      // thread
};

// Shared memory, exactly as large as was asked for, between canaries.
class Shared {
 public:
  void Reset(std::size_t size) {
    if (memory_ == nullptr || size != size_) {
      size_ = size;
      memory_.reset(
          static_cast<std::byte*>(std::aligned_alloc(128, (size + 2 * 128 + 127) / 128 * 128)));
    }
    std::memset(memory_.get(), static_cast<int>(kUntouched), 128);
    std::memset(data(), static_cast<int>(kRubbish), size_);
    std::memset(data() + size_, static_cast<int>(kUntouched), kCanary);
  }
  std::byte* data() const { return memory_.get() + 128; }
  std::size_t size() const { return size_; }
  bool Intact() const {
    const auto untouched = [](std::byte b) { return b == kUntouched; };
    return std::all_of(memory_.get(), data(), untouched) &&
           std::all_of(data() + size_, data() + size_ + kCanary, untouched);
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_ = 0;
};

struct Block {
  unsigned index = 0;
  bool begun = false;
  unsigned left = 0;  // threads
  Barrier barrier;
  std::deque<Thread> threads;  // the first of them
  std::vector<Warp> warps;
  Shared shared;
};

class Cluster {
 public:
  // Rubbish for what is left of an earlier grid, which may have been abandoned.
  void Reset(const Grid& grid, unsigned first_block, const std::function<void()>& thread) {
    grid_ = &grid;
    while (blocks_.size() < grid.cluster) blocks_.emplace_back();
    barrier_ = {};
    barrier_.size = grid.cluster * grid.threads;
    failure_.clear();
    for (unsigned b = 0; b < grid.cluster; ++b) {
      Block& block = blocks_[b];
      block.index = first_block + b;
      block.begun = false;
      block.left = grid.threads;
      block.barrier = {};
      block.barrier.size = grid.threads;
      block.shared.Reset(grid.shared_bytes);
      block.warps.assign((grid.threads + kWarp - 1) / kWarp, {});
      for (unsigned w = 0; w < block.warps.size(); ++w) {
        block.warps[w].first = w * kWarp;
        block.warps[w].barrier.size = std::min(kWarp, grid.threads - w * kWarp);
      }
      while (block.threads.size() < grid.threads) block.threads.emplace_back();
      for (unsigned t = 0; t < grid.threads; ++t) {
        Thread& one = block.threads[t];
        one.index = t;
        one.done = false;
        one.barrier = nullptr;
        one.copies.assign(1, {});
        one.fiber.Start(&thread);
      }
    }
  }

  std::string Run(std::uint64_t order) {
    for (bool ran = true; ran && failure_.empty();) {
      ran = false;
      ForEach(grid_->cluster, order, [&](unsigned b) {
        // As long as this block gets on by itself.
        while (RunBlock(blocks_[b], order)) ran = true;
      });
    }
    if (!failure_.empty()) return failure_;
    for (unsigned b = 0; b < grid_->cluster; ++b) {
      const Block& block = blocks_[b];
      if (block.left > 0) return Describe(block);
      if (!block.shared.Intact()) {
        return "block " + std::to_string(block.index) + " wrote outside its shared memory";
      }
    }
    return "";
  }

  Thread& thread() { return *thread_; }
  Block& block() { return *block_; }
  Warp& warp() { return block_->warps[thread_->index / kWarp]; }
  Barrier& barrier() { return barrier_; }
  unsigned size() const { return grid_->cluster; }
  unsigned rank() const { return block_->index % grid_->cluster; }
  Block& block(unsigned rank) { return blocks_[rank]; }

  // Waits at `barrier`, at which the thread has arrived in `round`.
  void Wait(const Barrier& barrier, std::uint64_t round, const std::source_location& where) {
    thread_->barrier = &barrier;
    thread_->round = round;
    thread_->where = where;
    Thread& me = *thread_;
    me.fiber.Pause();
    me.barrier = nullptr;
  }

  void SetFailure(std::string message) {
    failure_ = "block " + std::to_string(block_->index) + ", thread " +
               std::to_string(thread_->index) + ": " + std::move(message);
  }

 private:
  // Calls visit(0 … n-1) forwards, backwards or shuffled.
  template <typename Visit>
  void ForEach(unsigned n, std::uint64_t order, Visit visit) {
    for (unsigned i = 0; i < n && failure_.empty(); ++i) {
      switch (order % 3) {
        case 0: visit(i); break;
        case 1: visit(n - 1 - i); break;
        // An odd stride goes through all of a power of two, and of the rest what is in range.
        default: {
          const unsigned all = std::bit_ceil(n);
          const unsigned j = (i + static_cast<unsigned>(order)) * 11 % all;
          if (all == n)
            visit(j);
          else
            visit(n - 1 - i);
        }
      }
    }
  }

  bool RunBlock(Block& block, std::uint64_t order) {
    bool ran = false;
    ForEach(static_cast<unsigned>(block.warps.size()), order, [&](unsigned w) {
      while (RunWarp(block, block.warps[w], order)) ran = true;
    });
    return ran && failure_.empty();
  }

  bool RunWarp(Block& block, const Warp& warp, std::uint64_t order) {
    bool ran = false;
    ForEach(warp.barrier.size, order, [&](unsigned lane) {
      Thread& thread = block.threads[warp.first + lane];
      if (!thread.Ready()) return;
      ran = true;
      block_ = &block;
      thread_ = &thread;
      block.begun = true;
      threadIdx = {thread.index, 0, 0};
      blockIdx = {block.index, 0, 0};
      if (thread.fiber.Resume()) {
        thread.done = true;
        --block.left;
      }
    });
    return ran && failure_.empty();
  }

  std::string Describe(const Block& block) const {
    std::string text = "block " + std::to_string(block.index) + ": threads wait for ever:";
    std::vector<std::pair<std::string, unsigned>> places;
    unsigned done = 0;
    for (unsigned t = 0; t < grid_->threads; ++t) {
      const Thread& thread = block.threads[t];
      if (thread.done) {
        ++done;
        continue;
      }
      if (thread.barrier == nullptr) continue;
      const std::string place = At(thread.where);
      const auto known = std::find_if(places.begin(), places.end(),
                                      [&](const auto& p) { return p.first == place; });
      if (known == places.end())
        places.emplace_back(place, 1);
      else
        ++known->second;
    }
    for (const auto& [place, count] : places) text += " " + std::to_string(count) + " at " + place;
    return text + ", " + std::to_string(done) + " have ended";
  }

  const Grid* grid_ = nullptr;
  std::deque<Block> blocks_;
  Barrier barrier_;
  std::string failure_;
  Block* block_ = nullptr;
  Thread* thread_ = nullptr;
};

Cluster& Current() {
  static auto& cluster = *new Cluster;  // its fibers are used again
  return cluster;
}

void ArriveAt(Barrier& barrier, const std::source_location& where) {
  if (barrier.arrived == 0) barrier.where = where;
  if (barrier.where.line() != where.line() ||
      std::strcmp(barrier.where.file_name(), where.file_name()) != 0) {
    Fail("came to " + At(where) + " while others wait at " + At(barrier.where));
  }
}

}  // namespace

std::string RunGrid(const Grid& grid, const std::function<void()>& thread) {
  static std::uint64_t launches = 0;
  const std::uint64_t order = launches++;
  blockDim = {grid.threads, 1, 1};
  gridDim = {grid.blocks, 1, 1};
  Cluster& cluster = Current();
  for (unsigned first = 0; first < grid.blocks; first += grid.cluster) {
    cluster.Reset(grid, first, thread);
    std::string failure = cluster.Run(order);
    if (!failure.empty()) return failure;
  }
  return "";
}

void Fail(const std::string& message) {
  Cluster& cluster = Current();
  cluster.SetFailure(message);
  for (;;) cluster.thread().fiber.Pause();
}

void Meet(Meeting meeting, const std::source_location& where) {
  Cluster& cluster = Current();
  Barrier& barrier = meeting == Meeting::kWarp    ? cluster.warp().barrier
                     : meeting == Meeting::kBlock ? cluster.block().barrier
                                                  : cluster.barrier();
  ArriveAt(barrier, where);
  const std::uint64_t round = barrier.round;
  if (!barrier.Arrive()) cluster.Wait(barrier, round, where);
}

void ArriveAtCluster() {
  Cluster& cluster = Current();
  cluster.thread().cluster_round = cluster.barrier().round;
  cluster.barrier().Arrive();
}

void WaitForCluster(const std::source_location& where) {
  Cluster& cluster = Current();
  const std::uint64_t round = cluster.thread().cluster_round;
  if (cluster.barrier().round == round) cluster.Wait(cluster.barrier(), round, where);
}

const std::uint64_t* Exchange(std::uint64_t value, const std::source_location& where) {
  Cluster& cluster = Current();
  Warp& warp = cluster.warp();
  ArriveAt(warp.barrier, where);
  const std::uint64_t round = warp.barrier.round;
  auto& values = warp.values[round % 2];
  values[cluster.thread().index % kWarp] = value;
  if (warp.barrier.size < kWarp) Fail("an exchange of all lanes in a warp of fewer");
  if (!warp.barrier.Arrive()) cluster.Wait(warp.barrier, round, where);
  return values.data();
}

std::byte* SharedMemory() { return Current().block().shared.data(); }

void* SharedMemoryOf(unsigned rank, const void* mine) {
  Cluster& cluster = Current();
  if (rank >= cluster.size()) Fail("no such block in the cluster");
  const Block& other = cluster.block(rank);
  if (!other.begun) Fail("writes to a block that may not have begun");
  if (other.left == 0) Fail("writes to a block that may have ended");
  const auto offset = static_cast<const std::byte*>(mine) - cluster.block().shared.data();
  if (offset < 0 || static_cast<std::size_t>(offset) >= other.shared.size()) {
    Fail("maps an address that is not in shared memory");
  }
  return other.shared.data() + offset;
}

unsigned BlockOfCluster() { return Current().rank(); }
unsigned BlocksOfCluster() { return Current().size(); }

void CopyLater(void* to, const void* from, std::size_t size) {
  if (reinterpret_cast<std::uintptr_t>(to) % size != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % size != 0) {
    Fail("an asynchronous copy at an address that is not a multiple of its size");
  }
  std::memset(to, static_cast<int>(kRubbish), size);
  Current().thread().copies.back().push_back(
      {static_cast<std::byte*>(to), static_cast<const std::byte*>(from), size});
}

void CommitCopies() { Current().thread().copies.emplace_back(); }

void WaitForCopies(unsigned but_the_last) {
  auto& copies = Current().thread().copies;
  const std::size_t committed = copies.size() - 1;
  if (committed <= but_the_last) return;
  const auto end = copies.begin() + static_cast<std::ptrdiff_t>(committed - but_the_last);
  for (auto group = copies.begin(); group != end; ++group) {
    for (const Copy& copy : *group) std::memcpy(copy.to, copy.from, copy.size);
  }
  copies.erase(copies.begin(), end);
}

}  // namespace cuda_emulation
