// Items whose tensors lie in shared memory, as a session takes them.
#include "server/item_memory.h"

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/server/session_fixture.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kSecret[] = "0123456789abcdef";

class ItemMemoryTest : public SessionTest {
 protected:
  static constexpr std::uint64_t kSize = 4 << 20;

  ItemMemoryTest() {
    context_.regions = &regions_;
    EXPECT_TRUE(regions_.Open(kSecret, "uid 1").ok());
    Register();
  }

  void Register() {
    auto memory = std::shared_ptr<std::byte>(new std::byte[kSize], [this](std::byte* bytes) {
      ++unmapped_;
      delete[] bytes;
    });
    client_ = memory.get();
    region_ = *regions_.Register(kSecret, kSize, [&] {
      return absl::StatusOr<std::shared_ptr<std::byte>>(std::move(memory));
    });
  }

  void Place(v1::SharedMemory* at, std::uint64_t offset, std::uint64_t length) {
    at->set_region(region_);
    at->set_offset(offset);
    at->set_length(length);
  }

  // The whole item as SessionTest::Chunk has it, but in the region: prediction from 0, label from 1
  // MiB, gradient from 2 MiB.
  v1::StreamRequest Shared(std::uint64_t id, std::int64_t rows) {
    v1::StreamRequest request = Chunk(id, 0, rows, rows);
    std::memcpy(client_, request.prediction().data(), request.prediction().size());
    std::memcpy(client_ + (1 << 20), request.label().data(), request.label().size());
    v1::Item& item = *request.mutable_chunk()->mutable_item();
    item.set_shared_memory_session(kSecret);
    Place(item.mutable_prediction_memory(), 0, rows * 8);
    Place(item.mutable_label_memory(), 1 << 20, rows * 8);
    Place(item.mutable_gradient_memory(), 2 << 20, rows * 8);
    request.clear_prediction();
    request.clear_label();
    return request;
  }

  RegionTable regions_{{.session_bytes = 16 << 20, .tenant_bytes = 16 << 20}};
  std::byte* client_ = nullptr;
  std::uint64_t region_ = 0;
  int unmapped_ = 0;
};

// 100,000 rows are 1.6 MiB: more than a chunk, the credit and the budget allow of bytes that travel.
TEST_F(ItemMemoryTest, AnyItemFitsIntoOneMessageAndIsNotCharged) {
  constexpr std::int64_t kRows = 100000;
  const v1::StreamRequest request = Shared(1, kRows);
  ASSERT_TRUE(Send(request).ok());
  ASSERT_EQ(tasks_.size(), 1u);
  EXPECT_LT(budget_.used(), 16 << 10);
  EXPECT_EQ(tasks_[0]->wire_bytes, static_cast<std::int64_t>(request.ByteSizeLong()));
  Score();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].gradient, "");
  const v1::ItemResult& result = answers_[0].header.chunk().result();
  EXPECT_NEAR(result.loss(), ExpectedSum(kRows), 1e-9 * kRows);
  for (const std::int64_t row : {0, 1, 4711, 99999}) {
    float gradient[2];
    std::memcpy(gradient, client_ + (2 << 20) + row * 8, 8);
    const double p = 1 / (1 + std::exp(-static_cast<double>(Logit(row))));
    EXPECT_NEAR(gradient[0], p, 4e-7);
    EXPECT_NEAR(gradient[1], -p, 4e-7);
  }
}

TEST_F(ItemMemoryTest, ValuesEqualTheWiresBitForBit) {
  ASSERT_TRUE(Send(Chunk(1, 0, 3000, 3000)).ok());
  ASSERT_TRUE(Send(Shared(2, 3000)).ok());
  Score();
  Score();
  ASSERT_EQ(answers_.size(), 2u);
  v1::ItemResult wire = answers_[0].header.chunk().result();
  v1::ItemResult shared = answers_[1].header.chunk().result();
  wire.clear_times();
  shared.clear_times();
  EXPECT_EQ(wire.SerializeAsString(), shared.SerializeAsString());
  ASSERT_EQ(answers_[0].gradient.size(), 24000u);
  EXPECT_EQ(std::memcmp(answers_[0].gradient.data(), client_ + (2 << 20), 24000), 0);
}

// Each tensor for itself: here the label and the row losses travel.
TEST_F(ItemMemoryTest, TensorsMayTravelBesideOnesThatDoNot) {
  v1::StreamRequest request = Shared(1, 1000);
  *request.mutable_label() = Chunk(1, 0, 1000, 1000).label();
  v1::Item& item = *request.mutable_chunk()->mutable_item();
  item.clear_label_memory();
  item.set_want_row_loss(true);
  ASSERT_TRUE(Send(request).ok());
  Score();
  EXPECT_EQ(answers_[0].row_loss.size(), 4000u);
  EXPECT_EQ(answers_[0].gradient, "");
  EXPECT_NEAR(answers_[0].header.chunk().result().loss(), ExpectedSum(1000), 1e-6);
}

TEST_F(ItemMemoryTest, WhatIsWrongIsNamed) {
  const auto item = [](v1::StreamRequest& r) -> v1::Item& {
    return *r.mutable_chunk()->mutable_item();
  };
  using absl::StatusCode;
  const struct {
    const char* what;
    std::function<void(v1::StreamRequest&)> spoil;
    StatusCode code;
    const char* message;
  } cases[] = {
      {"no session", [&](auto& r) { item(r).clear_shared_memory_session(); }, StatusCode::kNotFound,
       "item.shared_memory_session: "},
      {"another session", [&](auto& r) { item(r).set_shared_memory_session("0123456789abcdeg"); },
       StatusCode::kNotFound, "item.shared_memory_session: "},
      {"no such region", [&](auto& r) { item(r).mutable_label_memory()->set_region(99); },
       StatusCode::kNotFound, "item.label_memory.region: 99"},
      {"beyond the region",
       [&](auto& r) { item(r).mutable_gradient_memory()->set_offset(kSize - 31); },
       StatusCode::kOutOfRange, "item.gradient_memory.offset: "},
      {"overflow",
       [&](auto& r) { item(r).mutable_prediction_memory()->set_offset(~std::uint64_t{0} - 7); },
       StatusCode::kOutOfRange, "item.prediction_memory.offset: "},
      {"too short", [&](auto& r) { item(r).mutable_label_memory()->set_length(31); },
       StatusCode::kInvalidArgument, "item.label_memory.length: 4 rows of 8 bytes make 32; was 31"},
      {"too long", [&](auto& r) { item(r).mutable_prediction_memory()->set_length(33); },
       StatusCode::kInvalidArgument, "item.prediction_memory.length: "},
      {"in place", [&](auto& r) { item(r).mutable_gradient_memory()->set_offset(0); },
       StatusCode::kInvalidArgument,
       "item.gradient_memory.offset: must not overlap item.prediction_memory, [0, 32); was [0, "
       "32)"},
      {"over the label's last byte",
       [&](auto& r) { item(r).mutable_gradient_memory()->set_offset((1 << 20) + 31); },
       StatusCode::kInvalidArgument,
       "item.gradient_memory.offset: must not overlap item.label_memory"},
      {"no gradient wanted", [&](auto& r) { item(r).clear_gradient_dtype(); },
       StatusCode::kInvalidArgument, "item.gradient_memory: must be absent"},
      {"a tensor twice", [&](auto& r) { r.set_label("x"); }, StatusCode::kInvalidArgument,
       "label: must be absent when item.label_memory is given; was 1 bytes"},
      {"in chunks",
       [&](auto& r) {
         item(r).mutable_prediction()->set_shape(0, 512);
         for (auto* m : {item(r).mutable_prediction_memory(), item(r).mutable_label_memory(),
                         item(r).mutable_gradient_memory()}) {
           m->set_length(4096);
         }
         r.mutable_chunk()->set_rows(256);
         r.mutable_chunk()->set_last(false);
       },
       StatusCode::kInvalidArgument, "chunk.rows: an item with tensors in shared memory"},
  };
  std::uint64_t id = 0;
  const std::int64_t before = budget_.used();
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    v1::StreamRequest request = Shared(++id, 4);
    c.spoil(request);
    ASSERT_TRUE(Send(request).ok());
    const v1::ItemError error = LastError(id);
    EXPECT_EQ(error.code(), static_cast<int>(c.code)) << error.message();
    EXPECT_THAT(error.message(), StartsWith(c.message));
    EXPECT_FALSE(error.retryable());
    EXPECT_TRUE(tasks_.empty());
  }
  EXPECT_EQ(budget_.used(), before);
  session_.reset();
  regions_.Close(kSecret);
  EXPECT_EQ(unmapped_, 1) << "something of a refused item is left";
}

TEST_F(ItemMemoryTest, WithoutASocketItIsUnimplemented) {
  context_.regions = nullptr;
  ASSERT_TRUE(Send(Shared(1, 4)).ok());
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(LastError(1).message(), StartsWith("item.prediction_memory: "));
}

// max_chunk_bytes, 64 KiB here, holds for what travels: 4 bytes a row of row losses.
TEST_F(ItemMemoryTest, WhatTravelsMustFitIntoAMessage) {
  const auto with_row_loss = [&](std::uint64_t id, std::int64_t rows) {
    v1::StreamRequest request = Shared(id, rows);
    request.mutable_chunk()->mutable_item()->set_want_row_loss(true);
    return request;
  };
  ASSERT_TRUE(Send(with_row_loss(1, 16384)).ok());
  Score();
  EXPECT_EQ(answers_.back().row_loss.size(), 65536u);
  ASSERT_TRUE(Send(with_row_loss(2, 16385)).ok());
  EXPECT_THAT(LastError(2).message(), HasSubstr("must not exceed 65536 bytes"));
}

TEST_F(ItemMemoryTest, AFreedRegionStaysUntilItsItemsAreScored) {
  ASSERT_TRUE(Send(Shared(1, 1000)).ok());
  ASSERT_TRUE(regions_.Free(kSecret, region_).ok());
  regions_.Close(kSecret);
  EXPECT_EQ(unmapped_, 0);
  Score();
  EXPECT_NEAR(answers_[0].header.chunk().result().loss(), ExpectedSum(1000), 1e-6);
  EXPECT_EQ(unmapped_, 1);
}

TEST_F(ItemMemoryTest, AFreedRegionCannotBeUsedAgain) {
  const v1::StreamRequest request = Shared(1, 4);
  ASSERT_TRUE(regions_.Free(kSecret, region_).ok());
  ASSERT_TRUE(Send(request).ok());
  EXPECT_THAT(LastError(1).message(), StartsWith("item.prediction_memory.region: 1 is not"));
}

// The answer gives the memory back, so nobody may be writing there any more.
TEST_F(ItemMemoryTest, ACancelledItemIsAnsweredWhenItsMemoryIsFree) {
  ASSERT_TRUE(Send(Shared(1, 4)).ok());
  v1::StreamRequest cancel;
  cancel.mutable_cancel()->set_id(1);
  ASSERT_TRUE(Send(cancel).ok());
  EXPECT_TRUE(answers_.empty());
  Score();
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kCancelled));
  // The id is free again.
  ASSERT_TRUE(Send(Shared(1, 4)).ok());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
}

// A client that goes away while its item is scored.
TEST_F(ItemMemoryTest, AGoneClientsMemoryIsLetGoOnceScored) {
  ASSERT_TRUE(Send(Shared(1, 1000)).ok());
  session_->CancelAll();
  regions_.Close(kSecret);
  EXPECT_EQ(unmapped_, 0);
  Score();
  EXPECT_EQ(unmapped_, 1);
}

TEST_F(ItemMemoryTest, AnItemWithoutRowsHasRangesWithoutBytes) {
  v1::StreamRequest request = Shared(1, 4);
  v1::Chunk& chunk = *request.mutable_chunk();
  chunk.set_rows(0);
  v1::Item& item = *chunk.mutable_item();
  item.mutable_prediction()->set_shape(0, 0);
  for (auto* m : {item.mutable_prediction_memory(), item.mutable_label_memory(),
                  item.mutable_gradient_memory()}) {
    m->set_length(0);
    m->set_offset(kSize);
  }
  ASSERT_TRUE(Send(request).ok());
  ASSERT_EQ(tasks_.size(), 1u);
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().result().conditions().empty());
}

}  // namespace
}  // namespace softloss
