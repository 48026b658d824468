// Tensors that somebody else writes to while they are scored, as memory that clients share may be: any
// number may come of it, but nothing outside the tensors is touched. Most of use under a sanitizer.
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "layout/tile.h"
#include "tests/testing/memfd.h"
#include "tests/testing/score_case.h"

namespace softloss::testing {
namespace {

constexpr std::size_t kRoom = 1 << 17;  // of each tensor
constexpr int kScores = 8;              // of a case

// Words of every size, among them class ids just out of range, all over the memory; every other time
// where class ids are.
void Scribble(const Mapping& memory, const std::atomic<bool>& stop) {
  Random noise(5);
  while (!stop.load(std::memory_order_relaxed)) {
    const std::uint64_t word = noise.Bits() >> (noise.Bits() % 64);
    const std::size_t at = noise.Chance(0.5) ? noise.Bits() % (memory.size() / 8 - 64) * 8
                                             : kRoom + noise.Bits() % 256 * 8;
    for (std::size_t i = at; i < at + 512; i += 8) std::memcpy(memory.data() + i, &word, 8);
  }
}

struct Tensors {
  std::vector<Fragment> prediction, label;
  std::vector<MutableFragment> gradient;
};

Tensors Cut(const ItemPlan& plan, std::byte* memory) {
  Tensors pieces;
  const auto cut = [&](std::size_t at, std::size_t element, auto* to) {
    ForEachPiece(plan.geometry, 0, plan.geometry.rows(), [&](auto offset, auto elements) {
      to->push_back({memory + at + offset * element, elements * element});
    });
  };
  cut(0, SizeOf(plan.key.prediction), &pieces.prediction);
  if (plan.key.label.kind == LabelKind::kDense) {
    cut(kRoom, SizeOf(plan.key.label.dtype), &pieces.label);
  } else {
    pieces.label.push_back(
        {memory + kRoom, static_cast<std::size_t>(plan.geometry.rows() * plan.label_row_bytes)});
  }
  cut(2 * kRoom, SizeOf(*plan.key.gradient), &pieces.gradient);
  return pieces;
}

class ScribbleTest : public ::testing::TestWithParam<Loss> {};

TEST_P(ScribbleTest, NothingButTheTensorsIsTouched) {
  const std::unique_ptr<Backend> backend = *MakeBackend("cpu");
  InlineExecutor executor;
  Random random(3);
  // Two mappings, as two processes have them: the kernels' and the scribbler's.
  const MemoryFile file(3 * kRoom);
  const Mapping ours(file.fd(), 3 * kRoom), theirs(file.fd(), 3 * kRoom);
  int cases = 0;
  for (const DType label : {DType::kF32, DType::kF16, DType::kU8, DType::kI32, DType::kI64}) {
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{3, 10, 100}, std::vector<std::int64_t>{300, 10},
          std::vector<std::int64_t>{100, 200}}) {
      for (const bool row_sum : {false, true}) {
        ItemShape item;
        item.shape = shape;
        item.class_axis = 1;
        item.gradient = DType::kF32;
        item.label.dtype = label;
        item.label.kind = IsInteger(label) ? LabelKind::kClassId : LabelKind::kDense;
        if (row_sum) item.label.scale = LabelScale::kRowSum;
        LossSpec spec;
        spec.loss = GetParam();
        const absl::StatusOr<ItemPlan> plan = MakePlan(item, spec);
        if (!plan.ok() || !backend->Supports(plan->key).ok()) continue;
        ++cases;
        const ScoreCase c = RandomCase(item, spec, {}, random);
        const Tensors pieces = Cut(*plan, ours.data());
        std::atomic<bool> stop{false};
        std::thread scribbler([&] { Scribble(theirs, stop); });
        for (int i = 0; i < kScores; ++i) {
          std::memcpy(ours.data(), c.prediction.data(), c.prediction.size());
          std::memcpy(ours.data() + kRoom, c.label.data(), c.label.size());
          // Of a size that a sanitizer watches.
          std::vector<LeafSum> leaves(CeilDiv(plan->geometry.rows(), plan->leaf_rows));
          Segment segment;
          segment.spec = &spec;
          segment.rows = plan->geometry.rows();
          segment.prediction = pieces.prediction;
          segment.label = pieces.label;
          segment.gradient = pieces.gradient;
          segment.leaves = absl::MakeSpan(leaves);
          EXPECT_TRUE(backend->Score(plan->key, absl::MakeSpan(&segment, 1), executor).ok());
          EXPECT_TRUE(segment.status.ok() || absl::IsInvalidArgument(segment.status))
              << segment.status;
        }
        stop = true;
        scribbler.join();
      }
    }
  }
  EXPECT_GT(cases, 0);
}

INSTANTIATE_TEST_SUITE_P(Losses, ScribbleTest, ::testing::ValuesIn(AllLosses()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace softloss::testing
