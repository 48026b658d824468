// Runs a kernel's grid: cluster after cluster, the threads of a cluster as fibers that go from one
// barrier or exchange to the next in an order that changes from launch to launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

namespace cuda_emulation {

struct Dimensions {
  unsigned x = 1, y = 1, z = 1;
};

struct Grid {
  unsigned blocks = 0;
  unsigned threads = 0;  // a block
  unsigned cluster = 1;  // blocks of a cluster
  std::size_t shared_bytes = 0;
};

// Empty if all threads came to their end; else what went wrong: threads that wait for each other at
// different places, or for one that has ended; writes outside shared memory.
std::string RunGrid(const Grid& grid, const std::function<void()>& thread);

// The rest is for the threads of a grid.

enum class Meeting { kWarp, kBlock, kCluster };

// Waits for all threads of the warp, block or cluster, which must all come to `where`.
void Meet(Meeting meeting, const std::source_location& where);
// Split: arrives at the cluster's barrier, and waits for those who have not arrived.
void ArriveAtCluster();
void WaitForCluster(const std::source_location& where);

// Gives what every lane of the warp came with: all 32 must, and to the same place.
const std::uint64_t* Exchange(std::uint64_t value, const std::source_location& where);

// Of this block, or of another of the cluster, which must have begun and not have ended.
std::byte* SharedMemory();
void* SharedMemoryOf(unsigned block, const void* mine);
unsigned BlockOfCluster();
unsigned BlocksOfCluster();

// Asynchronous copies: done when waited for, and rubbish until then.
void CopyLater(void* to, const void* from, std::size_t size);
void CommitCopies();
void WaitForCopies(unsigned but_the_last);

// Ends the grid, and is what RunGrid returns.
[[noreturn]] void Fail(const std::string& message);

}  // namespace cuda_emulation

// The language's, of the thread that runs.
extern cuda_emulation::Dimensions threadIdx, blockIdx, blockDim, gridDim;
