// One of the loads that are under way at a time: its stream, and memory on both sides.
#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "kernels/cuda/buffers.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/load.h"
#include "kernels/executor.h"

namespace softloss::cuda {

// Called by one thread at a time, with the device current.
class Slot {
 public:
  Slot() = default;
  ~Slot();
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  cudaError_t Open() { return cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }

  // RESOURCE_EXHAUSTED if there is not that much.
  absl::Status Reserve(std::size_t input_size, std::size_t output_size);

  // Gathers the load, which fits and outlives Finish(), and sends it on its way. INTERNAL if the device
  // is of no more use.
  absl::Status Start(const ScoreKey& key, const KernelKey& kernel, const DeviceLimits& limits,
                     const Load& load, Executor& executor);

  // Gives its memory back. Nothing may be under way.
  void Release();

  // Waits for what was started, and forgets it.
  void Abandon();

  // Waits for what was started, if anything, and hands its results out. INTERNAL as above.
  absl::Status Finish(const ScoreKey& key, Executor& executor);

 private:
  void Describe(const ScoreKey& key);
  void Gather(const ScoreKey& key, Executor& executor);
  void Scatter(const ScoreKey& key, Executor& executor);
  absl::Status CheckContents(const ScoreKey& key, const Piece& p, const Counters& c) const;

  cudaStream_t stream_ = nullptr;
  PinnedBuffer host_input_, host_output_;
  DeviceBuffer device_input_, device_output_;
  const Load* load_ = nullptr;  // under way
};

}  // namespace softloss::cuda
