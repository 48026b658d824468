// The backend on a device that has little memory, breaks, or is not there.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "tests/kernels/cuda_emulation/device.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

using cuda_emulation::ResetDevices;
using cuda_emulation::SetDevices;
using cuda_emulation::SetMemory;
using cuda_emulation::UsageNow;
using ::testing::HasSubstr;

constexpr std::size_t kPlenty = std::size_t{1} << 40;

class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override { ResetDevices(); }
  void TearDown() override { ResetDevices(); }

  static std::unique_ptr<Backend> Make() {
    absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend("cuda");
    EXPECT_TRUE(backend.ok()) << backend.status();
    return *std::move(backend);
  }

  ScoreCase Case(std::int64_t rows, std::int64_t classes, bool class_last,
                 LabelFormat label = {.dtype = DType::kF32},
                 Loss loss = Loss::kSoftmaxCrossEntropy) {
    ItemShape item;
    item.shape = class_last ? std::vector{rows, classes} : std::vector{classes, rows};
    item.class_axis = class_last ? 1 : 0;
    item.label = label;
    item.gradient = DType::kF32;
    item.has_mask = item.has_row_weight = item.want_row_loss = true;
    LossSpec spec;
    spec.loss = loss;
    spec.normalizer = Normalizer::kWeighted;
    spec.class_weight.assign(static_cast<std::size_t>(classes), 0.75F);
    return RandomCase(item, spec, {}, random_);
  }

  // Of scoring that fails.
  static absl::Status StatusOf(Backend& backend, const ScoreCase& c) {
    Bytes gradient(static_cast<std::size_t>(c.plan.geometry.elements()) * sizeof(float));
    Bytes row_loss(gradient.size());
    InlineExecutor executor;
    return ScoreItem(backend, executor, c.spec, c.item, c.inputs(),
                     {.gradient = gradient.data(), .row_loss = row_loss.data()})
        .status();
  }

  Random random_{5};
};

// What does not fit at once is cut at leaves, whatever the layout, and gives the same bits.
TEST_F(CudaBackendTest, LittleMemoryMeansMoreLoads) {
  for (const bool class_last : {true, false}) {
    for (const LabelFormat& label :
         {LabelFormat{.dtype = DType::kF32},
          LabelFormat{.kind = LabelKind::kClassId, .dtype = DType::kI64}}) {
      for (const Loss loss : {Loss::kSoftmaxCrossEntropy, Loss::kSigmoidCrossEntropy}) {
        const ScoreCase c = Case(1500, 33, class_last, label, loss);
        const ScoreOutcome whole = ScoreAlone(*Make(), c);
        ASSERT_TRUE(whole.status.ok()) << whole.status;
        ExpectMatches(c, whole);
        SetMemory(UsageNow().device_bytes + (400 << 10), kPlenty);
        std::unique_ptr<Backend> backend = Make();
        const std::int64_t before = UsageNow().launches;
        EXPECT_EQ(ScoreAlone(*backend, c).BitDifference(whole), "") << c.Describe();
        EXPECT_GT(UsageNow().launches, before + 2);
        ResetDevices();
      }
    }
  }
}

TEST_F(CudaBackendTest, LittlePinnedMemoryToo) {
  const ScoreCase c = Case(1500, 33, true);
  const ScoreOutcome whole = ScoreAlone(*Make(), c);
  SetMemory(kPlenty, UsageNow().pinned_bytes + (400 << 10));
  std::unique_ptr<Backend> backend = Make();
  EXPECT_EQ(ScoreAlone(*backend, c).BitDifference(whole), "");
}

TEST_F(CudaBackendTest, TooLittleForALeafIsSaidAndPasses) {
  const ScoreCase c = Case(1500, 33, true);
  std::unique_ptr<Backend> backend = Make();
  SetMemory(UsageNow().device_bytes + (20 << 10), kPlenty);
  const absl::Status status = StatusOf(*backend, c);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorMemoryAllocation"));
  ResetDevices();
  ExpectMatches(c, ScoreAlone(*backend, c));
}

// Two loads are under way at a time, and each gets its own results.
TEST_F(CudaBackendTest, LargeBatchesTakeTurnsInTwoSlots) {
  const ScoreCase c = Case(10500, 100, true);
  std::unique_ptr<Backend> backend = Make();
  const std::int64_t before = UsageNow().launches;
  const ScoreOutcome whole = ScoreAlone(*backend, c);
  EXPECT_GE(UsageNow().launches, before + 3);
  ExpectMatches(c, whole);
  EXPECT_EQ(ScoreAlone(*backend, c, {.chunk_leaves = 7}).BitDifference(whole), "");
}

TEST_F(CudaBackendTest, ABadRowBehindACutIsTheItemsOwn) {
  ScoreCase c = Case(1500, 33, true, {.kind = LabelKind::kClassId, .dtype = DType::kI32});
  std::vector<double> ids = Decode(DType::kI32, c.label);
  c.mask.assign(c.mask.size(), std::byte{1});
  ids[1200] = 33;
  ids[1300] = -5;
  c.label = Encode(DType::kI32, ids);
  SetMemory(UsageNow().device_bytes + (400 << 10), kPlenty);
  const ScoreOutcome outcome = ScoreAlone(*Make(), c);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("row 1200 was 33"));
}

TEST_F(CudaBackendTest, ABrokenDeviceStaysBroken) {
  const ScoreCase c = Case(50, 9, true);
  std::unique_ptr<Backend> backend = Make();
  ExpectMatches(c, ScoreAlone(*backend, c));
  cuda_emulation::BreakAfter(0, cudaErrorIllegalAddress);
  const absl::Status status = StatusOf(*backend, c);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorIllegalAddress"));
  ResetDevices();  // as if it had been well all the time: results so far may be wrong all the same
  EXPECT_EQ(StatusOf(*backend, c), status);
  ExpectMatches(c, ScoreAlone(*Make(), c));
}

TEST_F(CudaBackendTest, NoDeviceIsUnavailableInTheDriversWords) {
  SetDevices(0, 90);
  const absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend("cuda");
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(backend.status().message()), HasSubstr("cudaErrorNoDevice"));
}

TEST_F(CudaBackendTest, EveryDeviceIsABackend) {
  SetDevices(3, 90);
  EXPECT_EQ(MakeBackends("cuda")->size(), 3U);
  EXPECT_THAT(MakeBackend("cuda").value()->numerics_id(), HasSubstr("sm_90"));
}

TEST_F(CudaBackendTest, MemoryIsGivenBack) {
  const std::size_t device = UsageNow().device_bytes, pinned = UsageNow().pinned_bytes;
  const ScoreCase c = Case(50, 9, true);
  ExpectMatches(c, ScoreAlone(*Make(), c));
  EXPECT_EQ(UsageNow().device_bytes, device);
  EXPECT_EQ(UsageNow().pinned_bytes, pinned);
}

}  // namespace
}  // namespace softloss::testing
