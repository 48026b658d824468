// The bytes that the client sends are those that protobuf would.
#include "client/cpp/encoder.h"

#include <optional>

#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "softloss/v1/scorer.pb.h"
#include "tests/testing/random.h"

namespace softloss::internal {
namespace {

std::string Bytes(const Message& message) {
  std::string bytes;
  for (const grpc::Slice& s : message.slices) {
    EXPECT_GT(s.size(), 0u);
    bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  return bytes;
}

TEST(EncoderTest, EqualsProtobufByteForByte) {
  testing::Random random(1);
  for (int n = 0; n < 200; ++n) {
    // Sizes around what is copied, and around where lengths take another byte.
    const auto text = [&] {
      const std::int64_t sizes[] = {0, 1, 127, 128, 4096, 4097, 16383, 16384, 70000};
      std::string s(sizes[random.Int(0, 9)], '\0');
      for (char& c : s) c = static_cast<char>(random.Bits());
      return s;
    };
    v1::StreamRequest want;
    want.mutable_chunk()->set_id(random.Bits());
    want.mutable_chunk()->set_rows(random.Int(0, 1000));
    want.mutable_chunk()->mutable_item()->set_request_key(text());
    want.set_prediction(text());
    want.set_label(text());
    want.set_mask(text());

    std::atomic<int> borrowed{0};
    {
      Encoder encoder(&borrowed);
      encoder.Header(want.chunk());
      for (const auto& [field, bytes] :
           {std::pair(wire::kPrediction, &want.prediction()),
            std::pair(wire::kLabel, &want.label()), std::pair(wire::kMask, &want.mask())}) {
        encoder.Field(field, bytes->size());
        // In pieces, as tiles are.
        for (std::size_t at = 0; at < bytes->size();) {
          const auto size = std::min<std::size_t>(bytes->size() - at, random.Int(1, 12000));
          encoder.Append(bytes->data() + at, size);
          at += size;
        }
      }
      const Message message = encoder.Finish();
      EXPECT_EQ(message.size, want.ByteSizeLong());
      ASSERT_EQ(Bytes(message), want.SerializeAsString());
    }
    EXPECT_EQ(borrowed, 0);
  }
}

TEST(EncoderTest, RefersToLongMemoryUntilTheSlicesAreGone) {
  const std::string prediction(100000, 'p');
  std::atomic<int> borrowed{0};
  std::optional<grpc::ByteBuffer> copy;
  {
    Encoder encoder(&borrowed);
    encoder.Header(v1::Chunk());
    encoder.Field(wire::kPrediction, prediction.size());
    encoder.Append(prediction.data(), prediction.size());
    const Message message = encoder.Finish();
    EXPECT_EQ(static_cast<const void*>(message.slices.back().begin()), prediction.data());
    copy.emplace(message.slices.data(), message.slices.size());
    EXPECT_EQ(borrowed, 1);
  }
  EXPECT_EQ(borrowed, 1);
  copy.reset();
  EXPECT_EQ(borrowed, 0);
}

}  // namespace
}  // namespace softloss::internal
