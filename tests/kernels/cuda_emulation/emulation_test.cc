// That the emulation does what a device does, and notices what a device would not survive.
#include <cooperative_groups.h>
#include <cuda_device.h>
#include <cuda_pipeline_primitives.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/shared.cuh"
#include "kernels/cuda/start.h"
#include "tests/kernels/cuda_emulation/device.h"

namespace cuda_emulation {
namespace {

using softloss::cuda::BlockMemory;
using softloss::cuda::Start;
using ::testing::HasSubstr;

constexpr unsigned kAll = 0xffffffffu;

class EmulationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ResetDevices();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    ResetDevices();
    cudaStreamDestroy(stream_);
  }
  template <typename Kernel, typename... T>
  cudaError_t Run(Kernel kernel, int blocks, int threads, int shared, int cluster, T... arguments) {
    const cudaError_t error =
        Start(kernel, {blocks, threads, shared, cluster}, stream_, arguments...);
    return error != cudaSuccess ? error : cudaStreamSynchronize(stream_);
  }
  cudaStream_t stream_ = nullptr;
};

void SumOfWarp(int* out) {
  int v = static_cast<int>(threadIdx.x) + 1;
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(kAll, v, offset);
  const unsigned odd = __ballot_sync(kAll, threadIdx.x % 2 == 1);
  out[blockIdx.x * blockDim.x + threadIdx.x] = odd == 0xaaaaaaaau ? v : -1;
}

TEST_F(EmulationTest, LanesExchange) {
  std::vector<int> out(96);
  EXPECT_EQ(Run(SumOfWarp, 3, 32, 0, 1, out.data()), cudaSuccess);
  EXPECT_THAT(out, ::testing::Each(32 * 33 / 2));
}

void Reverse(int* out, bool with_barrier) {
  auto* shared = reinterpret_cast<int*>(BlockMemory());
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

TEST_F(EmulationTest, BarriersKeepThreadsTogether) {
  std::vector<int> expected(64);
  std::iota(expected.rbegin(), expected.rend(), 0);
  for (int i = 0; i < 3; ++i) {  // each in another order
    std::vector<int> out(64);
    EXPECT_EQ(Run(Reverse, 1, 64, 256, 1, out.data(), true), cudaSuccess);
    EXPECT_EQ(out, expected);
    EXPECT_EQ(Run(Reverse, 1, 64, 256, 1, out.data(), false), cudaSuccess);
    EXPECT_NE(out, expected);
  }
}

void BarrierForSome() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
void EndBeforeBarrier() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
void VoteWithoutSome() {
  if (threadIdx.x % 2 == 0) __ballot_sync(kAll, true);
}

TEST_F(EmulationTest, DivergentBarriersFail) {
  EXPECT_EQ(Run(BarrierForSome, 1, 64, 0, 1), cudaErrorLaunchFailure);
  EXPECT_THAT(LastFailure(), HasSubstr("while others wait at"));
}

TEST_F(EmulationTest, ThreadsThatWaitForEverFail) {
  EXPECT_EQ(Run(EndBeforeBarrier, 2, 64, 0, 1), cudaErrorLaunchFailure);
  EXPECT_THAT(LastFailure(), HasSubstr("63 at"));
  ResetDevices();
  EXPECT_EQ(Run(VoteWithoutSome, 1, 32, 0, 1), cudaErrorLaunchFailure);
  EXPECT_THAT(LastFailure(), HasSubstr("16 at"));
  ResetDevices();  // and the next grid is well
  std::vector<int> out(32);
  EXPECT_EQ(Run(SumOfWarp, 1, 32, 0, 1, out.data()), cudaSuccess);
}

// Other cases are for the address sanitizer, which would end the test here.
#ifndef __SANITIZE_ADDRESS__
void WriteAt(int offset) { BlockMemory()[offset] = std::byte{1}; }

TEST_F(EmulationTest, WritesOutsideSharedMemoryFail) {
  EXPECT_EQ(Run(WriteAt, 1, 1, 128, 1, 127), cudaSuccess);
  EXPECT_EQ(Run(WriteAt, 1, 1, 128, 1, 128), cudaErrorLaunchFailure);
  EXPECT_THAT(LastFailure(), HasSubstr("outside its shared memory"));
  ResetDevices();
  EXPECT_EQ(Run(WriteAt, 1, 1, 128, 1, -1), cudaErrorLaunchFailure);
}
#endif

void CopyOver(const float* in, float* out, bool waits) {
  auto* shared = reinterpret_cast<float*>(BlockMemory());
  __pipeline_memcpy_async(shared, in, 16);
  __pipeline_commit();
  __pipeline_memcpy_async(shared + 4, in + 4, 16);
  __pipeline_commit();
  __pipeline_wait_prior(waits ? 0 : 1);
  std::copy_n(shared, 8, out);
}

TEST_F(EmulationTest, CopiesAreThereOnceWaitedFor) {
  alignas(16) const float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> out(8);
  EXPECT_EQ(Run(CopyOver, 1, 1, 32, 1, in, out.data(), true), cudaSuccess);
  EXPECT_THAT(out, ::testing::ElementsAreArray(in));
  EXPECT_EQ(Run(CopyOver, 1, 1, 32, 1, in, out.data(), false), cudaSuccess);
  EXPECT_EQ(out[3], 4);
  EXPECT_NE(out[4], 5);
}

void TellNext(int* out, bool early) {
  auto cluster = cooperative_groups::this_cluster();
  auto* shared = reinterpret_cast<int*>(BlockMemory());
  if (!early) cluster.sync();
  *cluster.map_shared_rank(shared, (cluster.block_rank() + 1) % cluster.num_blocks()) =
      static_cast<int>(cluster.block_rank());
  cluster.barrier_arrive();
  cluster.barrier_wait();
  out[blockIdx.x] = *shared;
}

TEST_F(EmulationTest, BlocksOfAClusterExchange) {
  std::vector<int> out(8);
  EXPECT_EQ(Run(TellNext, 8, 1, 16, 4, out.data(), false), cudaSuccess);
  EXPECT_THAT(out, ::testing::ElementsAre(3, 0, 1, 2, 3, 0, 1, 2));
  EXPECT_EQ(Run(TellNext, 8, 1, 16, 4, out.data(), true), cudaErrorLaunchFailure);
  EXPECT_THAT(LastFailure(), HasSubstr("may not have begun"));
}

TEST_F(EmulationTest, LaunchesBeyondTheDevicesMeansFail) {
  std::vector<int> out(64);
  EXPECT_EQ(Run(Reverse, 1, 2000, 16, 1, out.data(), true), cudaErrorInvalidValue);
  EXPECT_EQ(Run(Reverse, 1, 64, 300 << 10, 1, out.data(), true), cudaErrorInvalidValue);
  SetDevices(1, 80);
  EXPECT_EQ(Run(TellNext, 2, 1, 16, 2, out.data(), false), cudaErrorInvalidValue);
}

TEST_F(EmulationTest, WorkIsDoneWhenItIsWaitedFor) {
  void *device, *host;
  ASSERT_EQ(cudaMalloc(&device, 4), cudaSuccess);
  ASSERT_EQ(cudaHostAlloc(&host, 4, cudaHostAllocDefault), cudaSuccess);
  cudaStream_t second;
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  auto* value = static_cast<int*>(host);
  *value = 0;
  EXPECT_EQ(cudaMemsetAsync(device, 1, 4, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(host, device, 4, cudaMemcpyDeviceToHost, second), cudaSuccess);
  EXPECT_EQ(*value, 0);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_EQ(*value, 0x01010101);
  EXPECT_EQ(cudaMemcpyAsync(host, device, 8, cudaMemcpyDeviceToHost, second),
            cudaErrorInvalidValue);
  cudaEventDestroy(event);
  cudaStreamDestroy(second);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}

TEST_F(EmulationTest, MemoryEndsWhereATestSays) {
  SetMemory(UsageNow().device_bytes + 100, UsageNow().pinned_bytes);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 101), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&memory, 100), cudaSuccess);
  void* pinned = nullptr;
  EXPECT_EQ(cudaHostAlloc(&pinned, 1, cudaHostAllocDefault), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(EmulationTest, WhatIsBrokenStaysBroken) {
  std::vector<int> out(32);
  BreakAfter(1, cudaErrorIllegalAddress);
  EXPECT_EQ(Run(SumOfWarp, 1, 32, 0, 1, out.data()), cudaSuccess);
  EXPECT_EQ(Run(SumOfWarp, 1, 32, 0, 1, out.data()), cudaErrorIllegalAddress);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
}

}  // namespace
}  // namespace cuda_emulation
