// Of cooperative groups: clusters of blocks.
#pragma once

#include <source_location>

#include "tests/kernels/cuda_emulation/grid.h"

namespace cooperative_groups {

class cluster_group {
 public:
  static unsigned block_rank() { return cuda_emulation::BlockOfCluster(); }
  static unsigned num_blocks() { return cuda_emulation::BlocksOfCluster(); }
  static void sync(const std::source_location& where = std::source_location::current()) {
    cuda_emulation::Meet(cuda_emulation::Meeting::kCluster, where);
  }
  static void barrier_arrive() { cuda_emulation::ArriveAtCluster(); }
  static void barrier_wait(const std::source_location& where = std::source_location::current()) {
    cuda_emulation::WaitForCluster(where);
  }
  template <typename T>
  static T* map_shared_rank(T* address, unsigned rank) {
    return static_cast<T*>(cuda_emulation::SharedMemoryOf(rank, address));
  }
};

inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
