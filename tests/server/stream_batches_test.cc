// Several messages in one, both ways, over a real connection.
#include <cmath>
#include <deque>

#include <gmock/gmock.h>

#include "tests/server/server_fixture.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;

class StreamBatchesTest : public ServerTest {
 protected:
  // The next reply that is not mere credit, wherever it is; `batched` counts those that came in
  // batches.
  v1::StreamResponse NextOf(Stream* stream) {
    for (;;) {
      if (unread_.empty()) {
        v1::StreamResponse message;
        if (!stream->Read(&message)) {
          ADD_FAILURE() << "the stream ended";
          return {};
        }
        if (message.batch_size() == 0) {
          unread_.push_back(message);
        }
        for (const std::string& bytes : message.batch()) {
          EXPECT_TRUE(unread_.emplace_back().ParseFromString(bytes));
          EXPECT_EQ(unread_.back().batch_size(), 0);
          ++batched_;
        }
      }
      const v1::StreamResponse reply = unread_.front();
      unread_.pop_front();
      if (!reply.has_credit()) return reply;
    }
  }

  static void Append(const v1::StreamRequest& message, v1::StreamRequest* batch) {
    batch->add_batch(message.SerializeAsString());
  }

  std::deque<v1::StreamResponse> unread_;
  int batched_ = 0;
};

TEST_F(StreamBatchesTest, GivesWhatItsMessagesGiveAlone) {
  constexpr int kItems = 40;
  const auto chunk = [](int i) {
    std::vector<float> x, t;
    for (int n = 0; n <= 13 * i; ++n) {
      x.push_back(static_cast<float>((n * 37 + i) % 101) * 0.3f - 15);
      t.push_back(static_cast<float>(n % 5) / 4);
    }
    return SigmoidChunk(i + 1, x, t);
  };
  grpc::ClientContext alone_context, context;
  v1::Hello hello;
  auto alone = Open(&alone_context, &hello);
  auto together = Open(&context);
  EXPECT_GE(hello.max_batch_messages(), kItems + 2);
  alone->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
  v1::StreamRequest batch;
  Append(Define(1, v1::SIGMOID_CROSS_ENTROPY), &batch);
  for (int i = 0; i < kItems; ++i) Append(chunk(i), &batch);
  v1::StreamRequest cancel;  // of what is not in flight: ignored
  cancel.mutable_cancel()->set_id(99);
  Append(cancel, &batch);
  together->Write(batch);
  for (int i = 0; i < kItems; ++i) {
    alone->Write(chunk(i));
    v1::StreamResponse want;  // never a batch: this client has sent none
    do {
      ASSERT_TRUE(alone->Read(&want));
      EXPECT_EQ(want.batch_size(), 0);
    } while (want.has_credit());
    v1::StreamResponse got = NextOf(together.get());
    EXPECT_EQ(got.gradient(), want.gradient());
    v1::ItemResult *got_result = got.mutable_chunk()->mutable_result(),
                   *want_result = want.mutable_chunk()->mutable_result();
    got_result->clear_times();
    want_result->clear_times();
    // Its credit is its own size, without what it takes to be in a batch.
    EXPECT_EQ(got.SerializeAsString(), want.SerializeAsString()) << i;
  }
  EXPECT_GT(batched_, kItems / 2);
  together->WritesDone();
  v1::StreamResponse end;
  EXPECT_FALSE(together->Read(&end));
  EXPECT_TRUE(together->Finish().ok());
}

// Its replies gather behind one that it does not read, and still come one by one.
TEST_F(StreamBatchesTest, AClientThatSentNoneGetsNone) {
  constexpr int kLarge = 6, kSmall = 30;
  grpc::ClientContext context;
  auto stream = Open(&context);
  stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
  const std::vector<float> large(200000);
  for (int i = 0; i < kLarge; ++i) stream->Write(SigmoidChunk(1 + i, large, large));
  for (int i = 0; i < kSmall; ++i) stream->Write(SigmoidChunk(100 + i, {0}, {0.5f}));
  // Another call, which the server takes in later than most of them.
  grpc::ClientContext other_context;
  Open(&other_context);
  for (int answered = 0; answered < kLarge + kSmall;) {
    v1::StreamResponse reply;
    ASSERT_TRUE(stream->Read(&reply));
    EXPECT_EQ(reply.batch_size(), 0);
    answered += reply.has_chunk() + reply.batch_size();
  }
}

TEST_F(StreamBatchesTest, ABadItemIsToldAndTheOthersAreScored) {
  grpc::ClientContext context;
  auto stream = Open(&context);
  v1::StreamRequest bad = SigmoidChunk(2, {1, 2}, {0, 1});
  bad.mutable_label()->pop_back();
  v1::StreamRequest batch;
  Append(Define(1, v1::SIGMOID_CROSS_ENTROPY), &batch);
  Append(SigmoidChunk(1, {0}, {0.5f}), &batch);
  Append(bad, &batch);
  Append(SigmoidChunk(3, {0}, {0.25f}), &batch);
  stream->Write(batch);
  int answered = 0;
  for (int i = 0; i < 3; ++i) {
    const v1::ChunkResult chunk = NextOf(stream.get()).chunk();
    answered |= 1 << chunk.id();
    if (chunk.id() == 2) {
      EXPECT_EQ(chunk.error().field(), "label");
    } else {
      EXPECT_NEAR(chunk.result().loss(), std::log(2.0), 7e-7);
    }
  }
  EXPECT_EQ(answered, 0b1110);
}

TEST_F(StreamBatchesTest, ABatchInABatchOrBesideAnythingEndsTheStream) {
  v1::StreamRequest inner, nested, mixed;
  Append(Define(1, v1::SIGMOID_CROSS_ENTROPY), &inner);
  Append(inner, &nested);
  mixed = SigmoidChunk(1, {0}, {0.5f});
  Append(Define(1, v1::SIGMOID_CROSS_ENTROPY), &mixed);
  for (const v1::StreamRequest& request : {nested, mixed}) {
    grpc::ClientContext context;
    auto stream = Open(&context);
    stream->Write(request);
    v1::StreamResponse response;
    EXPECT_FALSE(stream->Read(&response));
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("batch must be"));
  }
}

TEST_F(StreamBatchesTest, MoreMessagesThanAreAllowedEndTheStream) {
  grpc::ClientContext context;
  v1::Hello hello;
  auto stream = Open(&context, &hello);
  v1::StreamRequest cancel, batch;
  cancel.mutable_cancel()->set_id(1);
  for (std::uint32_t i = 0; i < hello.max_batch_messages(); ++i) Append(cancel, &batch);
  stream->Write(batch);
  v1::StreamRequest one;
  Append(Define(1, v1::SIGMOID_CROSS_ENTROPY), &one);
  stream->Write(one);
  stream->Write(SigmoidChunk(1, {0}, {0.5f}));
  EXPECT_TRUE(NextOf(stream.get()).chunk().has_result());
  Append(cancel, &batch);
  stream->Write(batch);
  stream->WritesDone();
  v1::StreamResponse response;
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("batch: must have at most 4096"));
}

}  // namespace
}  // namespace softloss
