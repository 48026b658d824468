#include "server/byte_buffer.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/testing/random.h"

namespace softloss {
namespace {

std::string Joined(const wire::FragmentVector& fragments) {
  std::string bytes;
  for (const Fragment& f : fragments) {
    bytes.append(reinterpret_cast<const char*>(f.data), f.size);
  }
  return bytes;
}

// In memory of its own unless it is short: those gRPC keeps inside the slice object.
grpc::Slice MakeSlice(const std::string& bytes) {
  if (bytes.size() < 10) return grpc::Slice(bytes);
  void* memory = std::malloc(bytes.size());
  std::memcpy(memory, bytes.data(), bytes.size());
  return grpc::Slice(memory, bytes.size(), &std::free);
}

// Under AddressSanitizer a slice that is let go too early is seen for sure.
TEST(ByteBufferTest, AMessageOfABatchKeepsItsOwnSlicesAndNoOthers) {
  v1::StreamRequest batch;
  std::vector<v1::StreamRequest> sent(6);
  for (std::size_t i = 0; i < sent.size(); ++i) {
    sent[i].mutable_chunk()->set_id(i + 1);
    sent[i].set_prediction(std::string(40 + 500 * i, static_cast<char>('a' + i)));
    sent[i].set_label(std::string(3, static_cast<char>('p' + i)));
    batch.add_batch(sent[i].SerializeAsString());
  }
  const std::string bytes = batch.SerializeAsString();
  for (int seed = 0; seed < 200; ++seed) {
    testing::Random random(seed);
    std::vector<grpc::Slice> slices;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::int64_t most = seed % 3 == 0 ? 8 : seed % 3 == 1 ? 100 : 4000;
      const std::size_t size = std::min<std::size_t>(bytes.size() - at, random.Int(0, most));
      slices.push_back(MakeSlice(bytes.substr(at, size)));
      at += size;
    }
    grpc::ByteBuffer buffer(slices.data(), slices.size());
    slices.clear();

    std::vector<std::shared_ptr<Received<v1::StreamRequest>>> kept;
    std::size_t all_slices = 0;
    {
      ReceivedBytes received;
      ASSERT_TRUE(received.Take(&buffer).ok());
      EXPECT_EQ(received.bytes, static_cast<std::int64_t>(bytes.size()));
      all_slices = received.slices.size();
      const absl::Status walked =
          wire::ForEachInBatch(received.fragments, [&](const wire::FragmentVector& message) {
            kept.push_back(std::make_shared<Received<v1::StreamRequest>>());
            return kept.back()->Parse(&received, message);
          });
      ASSERT_TRUE(walked.ok()) << walked;
    }
    ASSERT_EQ(kept.size(), sent.size());
    std::size_t kept_slices = 0;
    for (std::size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ(Joined(kept[i]->parsed.bulk[wire::kPrediction]), sent[i].prediction());
      EXPECT_EQ(Joined(kept[i]->parsed.bulk[wire::kLabel]), sent[i].label());
      EXPECT_EQ(kept[i]->bytes, static_cast<std::int64_t>(sent[i].ByteSizeLong()));
      kept_slices += kept[i]->slices.size();
    }
    // Neighbours share at most the slice in which one ends and the next begins.
    EXPECT_LE(kept_slices, all_slices + sent.size() - 1);
  }
}

TEST(ByteBufferTest, RepliesGoAloneOrAsABatch) {
  SlabPool slabs(SlabPool::Options{});
  const auto reply = [&](std::uint64_t id, std::size_t gradient, std::size_t row_loss) {
    v1::ChunkResult header;
    header.set_id(id);
    const auto filled = [&](std::size_t size) {
      Slab slab = size > 0 ? slabs.Allocate(size) : Slab();
      if (size > 0) std::memset(slab.data(), static_cast<int>('0' + id), size);
      return slab;
    };
    return EncodeBulkReply(header, filled(gradient), filled(row_loss), Charge());
  };
  const auto parsed = [](grpc::ByteBuffer bytes) {
    std::vector<grpc::Slice> slices;
    EXPECT_TRUE(bytes.Dump(&slices).ok());
    std::string flat;
    for (const grpc::Slice& s : slices)
      flat.append(reinterpret_cast<const char*>(s.begin()), s.size());
    v1::StreamResponse message;
    EXPECT_TRUE(message.ParseFromString(flat));
    return message;
  };
  std::vector<Reply> replies;
  replies.push_back(reply(1, 300, 0));
  const v1::StreamResponse one = parsed(ToByteBuffer(absl::MakeSpan(replies)));
  EXPECT_EQ(one.chunk().id(), 1u);
  EXPECT_EQ(one.gradient(), std::string(300, '1'));

  replies.clear();
  replies.push_back(reply(1, 300, 0));
  replies.push_back(reply(2, 0, 0));
  replies.push_back(reply(3, 20, 5));
  const v1::StreamResponse batch = parsed(ToByteBuffer(absl::MakeSpan(replies)));
  ASSERT_EQ(batch.batch_size(), 3);
  v1::StreamResponse third;
  ASSERT_TRUE(third.ParseFromString(batch.batch(2)));
  EXPECT_EQ(third.chunk().id(), 3u);
  EXPECT_EQ(third.gradient(), std::string(20, '3'));
  EXPECT_EQ(third.row_loss(), std::string(5, '3'));
}

}  // namespace
}  // namespace softloss
