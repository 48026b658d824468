// What tests of the backend may ask of the emulated device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_emulation {

// One healthy device of compute capability 9.0 (or SOFTLOSS_CUDA_EMULATION_CAPABILITY=80) with plenty of
// memory. What was allocated stays.
void ResetDevices();

// How many there are, and of which compute capability (80 has no clusters, and less shared memory).
void SetDevices(int count, int compute_capability);

// Bytes of device and of pinned memory that may be allocated at a time, all devices together.
void SetMemory(std::size_t device, std::size_t pinned);

// After that many more launches the next one, and everything after it, fails with `error`.
void BreakAfter(int launches, cudaError_t error);

struct Usage {
  std::size_t device_bytes = 0;  // allocated now
  std::size_t pinned_bytes = 0;
  std::int64_t launches = 0;  // since the beginning
  std::int64_t copies = 0;
};
Usage UsageNow();

// Why the last grid failed, or empty.
std::string LastFailure();

}  // namespace cuda_emulation
