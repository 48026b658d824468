#include "tests/kernels/cuda_emulation/device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/kernels/cuda_emulation/grid.h"

namespace cuda_emulation {

struct Mark {
  bool reached = false;
};

// Work that waits for somebody to wait for it.
class Stream {
 public:
  struct Task {
    std::function<cudaError_t()> run;
    Stream* other = nullptr;  // a wait: for `mark` in it
    std::shared_ptr<Mark> mark;
  };

  void Add(std::function<cudaError_t()> run) { tasks_.push_back({std::move(run), nullptr, {}}); }
  void AddWait(Stream* other, std::shared_ptr<Mark> mark) {
    tasks_.push_back({nullptr, other, std::move(mark)});
  }

  // Until the mark is reached, or to the end.
  cudaError_t Run(const Mark* until) {
    while (!tasks_.empty() && (until == nullptr || !until->reached)) {
      const Task task = std::move(tasks_.front());
      tasks_.pop_front();
      const cudaError_t error = task.run ? task.run() : task.other->Run(task.mark.get());
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

 private:
  std::deque<Task> tasks_;
};

class Event {
 public:
  Stream* stream = nullptr;  // of the last record
  std::shared_ptr<Mark> mark;
};

namespace {

constexpr std::size_t kGuard = 64;  // bytes in front of and behind every allocation
constexpr int kGuardByte = 0x5A;
constexpr int kRubbish = 0xF7;

int InitialCapability() {
  const char* wanted = std::getenv("SOFTLOSS_CUDA_EMULATION_CAPABILITY");
  return wanted == nullptr ? 90 : std::atoi(wanted);
}

struct Devices {
  int count = 1;
  int compute_capability = InitialCapability();
  std::size_t device_limit = std::numeric_limits<std::size_t>::max();
  std::size_t pinned_limit = std::numeric_limits<std::size_t>::max();
  int launches_to_break = -1;
  cudaError_t broken = cudaSuccess;
  cudaError_t to_come = cudaSuccess;
  cudaError_t last = cudaSuccess;
  std::string failure;
  Usage usage;
  std::map<const void*, std::size_t> device, pinned;
  std::map<const void*, int> shared_bytes;  // of kernels that asked for more than the usual
  std::map<const void*, bool> large_clusters;
};

// Kernels and streams run one at a time, whoever calls.
std::recursive_mutex& Mutex() {
  static auto& mutex = *new std::recursive_mutex;
  return mutex;
}
Devices& All() {
  static auto& devices = *new Devices;
  return devices;
}
using Lock = std::lock_guard<std::recursive_mutex>;

cudaError_t Note(cudaError_t error) {
  if (error != cudaSuccess) All().last = error;
  return error;
}

// What was broken stays so.
cudaError_t Healthy() { return Note(All().broken); }

cudaError_t Break(cudaError_t error) {
  All().broken = error;
  return Note(error);
}

cudaError_t Allocate(void** memory, std::size_t size, std::map<const void*, std::size_t>& known,
                     std::size_t& used, std::size_t limit) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  if (size > limit || used > limit - size) return Note(cudaErrorMemoryAllocation);
  constexpr std::size_t kAlignment = 256;
  const std::size_t whole = (size + 2 * kAlignment + kAlignment - 1) / kAlignment * kAlignment;
  auto* begin = static_cast<std::byte*>(std::aligned_alloc(kAlignment, whole));
  if (begin == nullptr) return Note(cudaErrorMemoryAllocation);
  std::memset(begin, kGuardByte, kAlignment);
  std::memset(begin + kAlignment, kRubbish, size);
  std::memset(begin + kAlignment + size, kGuardByte, kGuard);
  *memory = begin + kAlignment;
  known[*memory] = size;
  used += size;
  return cudaSuccess;
}

cudaError_t Release(void* memory, std::map<const void*, std::size_t>& known, std::size_t& used) {
  const Lock lock(Mutex());
  if (memory == nullptr) return cudaSuccess;
  const auto found = known.find(memory);
  if (found == known.end()) return Note(cudaErrorInvalidValue);
  auto* data = static_cast<std::byte*>(memory);
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (data[found->second + i] != std::byte{kGuardByte} ||
        data[-1 - static_cast<int>(i)] != std::byte{kGuardByte}) {
      std::fprintf(stderr, "cuda emulation: written outside an allocation\n");
      std::abort();
    }
  }
  used -= found->second;
  known.erase(found);
  constexpr std::size_t kAlignment = 256;
  std::free(data - kAlignment);
  return cudaSuccess;
}

// Whether [memory, memory + size) lies within one of the allocations.
bool Within(const std::map<const void*, std::size_t>& known, const void* memory, std::size_t size) {
  auto after = known.upper_bound(memory);
  if (after == known.begin()) return false;
  --after;
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(memory) -
                                               static_cast<const std::byte*>(after->first));
  return offset <= after->second && size <= after->second - offset;
}

}  // namespace

void ResetDevices() {
  const Lock lock(Mutex());
  Devices& all = All();
  all.count = 1;
  all.compute_capability = InitialCapability();
  all.device_limit = all.pinned_limit = std::numeric_limits<std::size_t>::max();
  all.launches_to_break = -1;
  all.broken = all.last = cudaSuccess;
  all.failure.clear();
}

void SetDevices(int count, int compute_capability) {
  const Lock lock(Mutex());
  All().count = count;
  All().compute_capability = compute_capability;
}

void SetMemory(std::size_t device, std::size_t pinned) {
  const Lock lock(Mutex());
  All().device_limit = device;
  All().pinned_limit = pinned;
}

void BreakAfter(int launches, cudaError_t error) {
  const Lock lock(Mutex());
  All().launches_to_break = launches;
  All().to_come = error;
}

Usage UsageNow() {
  const Lock lock(Mutex());
  return All().usage;
}

std::string LastFailure() {
  const Lock lock(Mutex());
  return All().failure;
}

cudaError_t SetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    const int most = All().compute_capability >= 90 ? 227 << 10 : 163 << 10;
    if (value < 0 || value > most) return Note(cudaErrorInvalidValue);
    All().shared_bytes[kernel] = value;
  }
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
    All().large_clusters[kernel] = value != 0;
  }
  return cudaSuccess;
}

cudaError_t Launch(const cudaLaunchConfig_t& config, const void* kernel,
                   std::function<void()> thread) {
  const Lock lock(Mutex());
  Devices& all = All();
  if (cudaError_t error = Healthy()) return error;
  Grid grid;
  grid.blocks = config.gridDim.x;
  grid.threads = config.blockDim.x;
  grid.shared_bytes = config.dynamicSmemBytes;
  for (unsigned i = 0; i < config.numAttrs; ++i) grid.cluster = config.attrs[i].val.clusterDim.x;
  constexpr int kUsual = 48 << 10;
  const auto asked = all.shared_bytes.find(kernel);
  const int allowed = asked == all.shared_bytes.end() ? kUsual : asked->second;
  const unsigned largest_cluster = all.compute_capability < 90  ? 1
                                   : all.large_clusters[kernel] ? 16
                                                                : 8;
  if (grid.blocks == 0 || grid.blocks > 0x7fffffffu || grid.threads == 0 || grid.threads > 1024 ||
      grid.shared_bytes > static_cast<std::size_t>(allowed) || grid.cluster > largest_cluster ||
      grid.blocks % grid.cluster != 0 || config.gridDim.y != 1 || config.blockDim.y != 1) {
    return Note(cudaErrorInvalidValue);
  }
  ++all.usage.launches;
  const bool breaks = all.launches_to_break == 0;
  if (all.launches_to_break >= 0) --all.launches_to_break;
  config.stream->Add([grid, thread = std::move(thread), breaks] {
    if (breaks) return Break(All().to_come);
    std::string failure = RunGrid(grid, thread);
    if (failure.empty()) return cudaSuccess;
    std::fprintf(stderr, "cuda emulation: %s\n", failure.c_str());
    All().failure = std::move(failure);
    return Break(cudaErrorLaunchFailure);
  });
  return cudaSuccess;
}

}  // namespace cuda_emulation

using cuda_emulation::All;
using cuda_emulation::Healthy;
using cuda_emulation::Lock;
using cuda_emulation::Mutex;
using cuda_emulation::Note;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
  }
  return "unknown";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an emulated device's error";
}

cudaError_t cudaGetLastError() {
  const Lock lock(Mutex());
  return std::exchange(All().last, All().broken);
}

cudaError_t cudaGetDeviceCount(int* count) {
  const Lock lock(Mutex());
  *count = All().count;
  return All().count == 0 ? Note(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const Lock lock(Mutex());
  if (device < 0 || device >= All().count) return Note(cudaErrorInvalidDevice);
  return Healthy();
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const Lock lock(Mutex());
  const int capability = All().compute_capability;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = capability % 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = capability >= 90 ? 227 << 10 : 163 << 10;
      break;
    case cudaDevAttrMultiProcessorCount: *value = 2; break;
  }
  return Healthy();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  *stream = new cuda_emulation::Stream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(Mutex());
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  return stream->Run(nullptr);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  if (event->mark != nullptr && event->stream != stream)
    stream->AddWait(event->stream, event->mark);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  *event = new cuda_emulation::Event;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(Mutex());
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  event->stream = stream;
  event->mark = std::make_shared<cuda_emulation::Mark>();
  stream->Add([mark = event->mark] {
    mark->reached = true;
    return cudaSuccess;
  });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  return event->mark == nullptr ? cudaSuccess : event->stream->Run(event->mark.get());
}

cudaError_t cudaMalloc(void** memory, std::size_t size) {
  return cuda_emulation::Allocate(memory, size, All().device, All().usage.device_bytes,
                                  All().device_limit);
}

cudaError_t cudaFree(void* memory) {
  return cuda_emulation::Release(memory, All().device, All().usage.device_bytes);
}

cudaError_t cudaHostAlloc(void** memory, std::size_t size, unsigned) {
  return cuda_emulation::Allocate(memory, size, All().pinned, All().usage.pinned_bytes,
                                  All().pinned_limit);
}

cudaError_t cudaFreeHost(void* memory) {
  return cuda_emulation::Release(memory, All().pinned, All().usage.pinned_bytes);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  const bool up = kind == cudaMemcpyHostToDevice;
  if (!cuda_emulation::Within(All().device, up ? to : from, size) ||
      !cuda_emulation::Within(All().pinned, up ? from : to, size)) {
    return Note(cudaErrorInvalidValue);
  }
  ++All().usage.copies;
  stream->Add([=] {
    std::memcpy(to, from, size);
    return cudaSuccess;
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t size, cudaStream_t stream) {
  const Lock lock(Mutex());
  if (cudaError_t error = Healthy()) return error;
  if (!cuda_emulation::Within(All().device, memory, size)) return Note(cudaErrorInvalidValue);
  stream->Add([=] {
    std::memset(memory, value, size);
    return cudaSuccess;
  });
  return cudaSuccess;
}
