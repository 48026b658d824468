// What goes right: every layout, chunked and tiled, from many threads, within the credit.
#include "softloss/client.h"

#include <atomic>
#include <cstdint>
#include <thread>

#include "tests/client/client_fixture.h"

namespace softloss::testing {
namespace {

using ::testing::ElementsAre;

struct Shape {
  std::vector<std::int64_t> shape;
  std::optional<int> class_axis;
};

// Class axis last, first and in the middle; inner lines shorter and longer than what a client would
// copy; rows that cross images within a chunk; nothing at all.
const Shape kShapes[] = {
    {{1000}, std::nullopt}, {{37, 29}, std::nullopt}, {{}, std::nullopt},  {{3000, 7}, -1},
    {{11, 2000}, 0},        {{5, 3, 17, 19}, 1},      {{2, 3, 64, 96}, 1}, {{3, 9, 11, 5}, -1},
    {{0, 4}, -1},           {{4, 1000}, 1},           {{700, 1}, 1},
};

TEST_F(ClientTest, GetsTheBitsOfAnyLayoutBackInPlace) {
  FakeLimits limits;
  limits.max_chunk_bytes = 70000;
  StartServer(limits);
  Connect();
  Random random(1);
  for (const Shape& shape : kShapes) {
    for (const Loss loss : {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy}) {
      if (!shape.class_axis && !IsElementwise(loss)) continue;
      for (int options = 0; options < 8; ++options) {
        ItemShape item;
        item.shape = shape.shape;
        item.class_axis = shape.class_axis;
        item.prediction = static_cast<DType>(random.Int(1, 5));
        item.label.dtype = static_cast<DType>(random.Int(1, 6));
        if (shape.class_axis && random.Chance(0.3)) {
          item.label = {LabelKind::kClassId, random.Chance(0.5) ? DType::kI32 : DType::kI64};
        }
        if (shape.class_axis && random.Chance(0.3)) {
          item.label = {.kind = LabelKind::kSparse,
                        .dtype = static_cast<DType>(random.Int(1, 6)),
                        .k = 1,
                        .id_dtype = random.Chance(0.5) ? DType::kI32 : DType::kI64,
                        .tail = IsElementwise(loss) ? TailRule::kZero
                                                    : static_cast<TailRule>(random.Int(1, 5))};
          const auto axis = *shape.class_axis < 0 ? shape.shape.size() - 1
                                                  : static_cast<std::size_t>(*shape.class_axis);
          if (shape.shape[axis] >= 3 && random.Chance(0.5)) item.label.k = 3;
        }
        if (random.Chance(0.7)) item.gradient = static_cast<DType>(random.Int(1, 5));
        item.has_mask = options & 1;
        item.has_row_weight = options & 2;
        item.want_row_loss = options & 4;
        LossSpec spec;
        spec.loss = loss;
        spec.reduction = static_cast<Reduction>(random.Int(1, 4));
        const ScoreCase c = RandomCase(item, spec, {}, random);
        ExpectAnswer(c, client_->Score(RequestOf(c)));
      }
    }
  }
  EXPECT_EQ(server_->streams(), 1);
}

TEST_F(ClientTest, ChunksAnyWayTheLimitsAsk) {
  FakeLimits limits;
  limits.max_chunk_bytes = 1 << 20;
  StartServer(limits);
  const ScoreCase c = MatrixCase(5000, 10, 2);
  for (const std::int64_t bytes : {256 * 80, 256 * 81, 100000, 1 << 20, 1 << 30}) {
    ClientOptions options = QuickOptions();
    options.max_chunk_bytes = bytes;
    Connect(options);
    ExpectAnswer(c, client_->Score(RequestOf(c)));
  }
}

TEST_F(ClientTest, WritesIntoTheCallersMemory) {
  StartServer();
  Connect();
  ItemShape item;
  item.shape = {3, 5, 40, 40};
  item.class_axis = 1;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  Random random(3);
  const ScoreCase c = RandomCase(item, LossSpec(), {}, random);
  Bytes gradient(24000 * 4), row_loss(24000 * 4);
  ScoreRequest request = RequestOf(c);
  request.gradient = gradient.data();
  request.row_loss = row_loss.data();
  ExpectAnswer(c, client_->Score(request), gradient.data(), row_loss.data());
}

TEST_F(ClientTest, AllocatesAlignedMemory) {
  StartServer();
  Connect();
  const ScoreCase c = MatrixCase(100, 3, 4);
  Outcome outcome = client_->Score(RequestOf(c));
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(outcome->gradient.data()) % 64, 0u);
  EXPECT_TRUE(outcome->row_loss.empty());
  Buffer moved = std::move(outcome->gradient);
  EXPECT_EQ(moved.size(), 1200u);
  EXPECT_TRUE(outcome->gradient.empty());
}

TEST_F(ClientTest, DefinesEachSpecOnceAStream) {
  StartServer();
  Connect();
  ScoreCase c = MatrixCase(10, 3, 5);
  for (const float smoothing : {0.0f, 0.1f, 0.0f, 0.1f, 0.2f}) {
    c.spec.label_smoothing = smoothing;
    ExpectAnswer(c, client_->Score(RequestOf(c)));
  }
  std::vector<std::uint32_t> ids;
  for (const v1::Item& item : server_->items()) ids.push_back(item.spec_id());
  EXPECT_THAT(ids, ElementsAre(1, 2, 1, 2, 3));
}

TEST_F(ClientTest, DefinesAnewWhatGaveWay) {
  StartServer();
  Connect();
  ScoreCase c = MatrixCase(4, 3, 5);
  const auto score = [&](int step) {
    c.spec.label_smoothing = static_cast<float>(step) / 1000;
    ExpectAnswer(c, client_->Score(RequestOf(c)));
  };
  for (int step = 0; step < 100; ++step) score(step);
  score(99);
  score(0);
  score(99);
  std::uint32_t highest = 0;
  for (const v1::Item& item : server_->items()) highest = std::max(highest, item.spec_id());
  EXPECT_EQ(highest, 64u);
}

TEST_F(ClientTest, TakesRepliesInAnyOrder) {
  constexpr int kItems = 6;
  FakeLimits limits;
  limits.max_chunk_bytes = 256 * 12 * 3;
  StartServer(limits, {[](FakeStream& stream) {
                std::vector<v1::StreamRequest> chunks;
                stream.Hello();
                v1::StreamRequest message;
                for (int last = 0; last < kItems && stream.Read(&message);) {
                  chunks.push_back(message);
                  last += message.chunk().last();
                }
                // The last chunk of the last item first, and so on.
                for (; !chunks.empty(); chunks.pop_back())
                  stream.Write(stream.Score(chunks.back()));
                return grpc::Status::OK;
              }});
  Connect();
  std::vector<ScoreCase> cases;
  for (int i = 0; i < kItems; ++i) cases.push_back(MatrixCase(500 + 900 * i, 3, 10 + i));
  std::vector<std::future<Outcome>> futures;
  for (const ScoreCase& c : cases) futures.push_back(client_->Submit(RequestOf(c)));
  for (int i = 0; i < kItems; ++i) ExpectAnswer(cases[i], futures[i].get());
}

// The fake checks, message by message, that no more is outstanding than it granted.
TEST_F(ClientTest, StaysWithinCreditThatComesBackLate) {
  FakeLimits limits;
  limits.credit_bytes = 20000;
  limits.credit_items = 3;
  limits.max_chunk_bytes = 8000;
  StartServer(limits, {[](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest message;
                v1::StreamResponse owed;
                for (int n = 0; stream.Read(&message); ++n) {
                  v1::StreamResponse reply = stream.Score(message);
                  v1::Credit* credit = owed.mutable_credit();
                  credit->set_bytes(credit->bytes() + reply.chunk().returned().bytes());
                  credit->set_items(credit->items() + reply.chunk().returned().items());
                  reply.mutable_chunk()->clear_returned();
                  stream.Write(reply);
                  // By itself, and in lumps.
                  if (n % 2 == 1 || credit->items() > 0) {
                    stream.Write(owed);
                    owed.Clear();
                  }
                }
                return grpc::Status::OK;
              }});
  Connect();
  std::vector<ScoreCase> cases;
  for (int i = 0; i < 20; ++i) cases.push_back(MatrixCase(1 + 170 * i, 3, 20 + i));
  std::vector<std::future<Outcome>> futures;
  for (const ScoreCase& c : cases) futures.push_back(client_->Submit(RequestOf(c)));
  for (std::size_t i = 0; i < cases.size(); ++i) ExpectAnswer(cases[i], futures[i].get());
}

TEST_F(ClientTest, SendsAMessageLargerThanAllCreditWhenNothingElseIsOut) {
  FakeLimits limits;
  limits.credit_bytes = 1000;
  StartServer(limits);
  Connect();
  const ScoreCase c = MatrixCase(9000, 3, 40);
  std::vector<std::future<Outcome>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(client_->Submit(RequestOf(c)));
  for (std::future<Outcome>& f : futures) ExpectAnswer(c, f.get());
}

TEST_F(ClientTest, AnswersEveryThreadOnce) {
  constexpr int kThreads = 4;
  constexpr int kRequests = 100;
  FakeLimits limits;
  limits.credit_bytes = 100000;
  limits.credit_items = 16;
  limits.max_chunk_bytes = 32768;
  StartServer(limits);
  ClientOptions options = QuickOptions();
  options.channels = 3;
  Connect(options);
  EXPECT_EQ(server_->streams(), 3);
  std::atomic<int> answers{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(50 + t);
      std::vector<ScoreCase> cases;
      for (int i = 0; i < kRequests; ++i) {
        cases.push_back(MatrixCase(random.Int(1, 900), random.Int(1, 12), random.Bits()));
      }
      std::vector<std::promise<Outcome>> promises(kRequests);
      for (int i = 0; i < kRequests; ++i) {
        client_->Submit(RequestOf(cases[i]), [&answers, &promise = promises[i]](Outcome outcome) {
          ++answers;
          promise.set_value(std::move(outcome));
        });
      }
      for (int i = 0; i < kRequests; ++i) {
        ExpectAnswer(cases[i], promises[i].get_future().get());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers, kThreads * kRequests);
}

// Requests that a callback makes wait until the lane's thread is back from it: they go together.
TEST_F(ClientTest, SmallRequestsThatWaitGoTogether) {
  constexpr int kRequests = 20;
  FakeLimits limits;
  limits.max_batch_messages = 100;
  StartServer(limits);
  Connect();
  std::vector<ScoreCase> cases;
  for (int i = 0; i < kRequests; ++i) cases.push_back(MatrixCase(1 + 7 * i, 3, 60 + i));
  std::vector<std::future<Outcome>> futures;
  std::promise<void> submitted;
  client_->Submit(RequestOf(cases[0]), [&](const Outcome&) {
    for (const ScoreCase& c : cases) futures.push_back(client_->Submit(RequestOf(c)));
    submitted.set_value();
  });
  submitted.get_future().wait();
  for (int i = 0; i < kRequests; ++i) ExpectAnswer(cases[i], futures[i].get());
  // The definition with the first request, then all that waited.
  EXPECT_THAT(server_->batches(), ElementsAre(2, kRequests));
}

TEST_F(ClientTest, BatchesKeepToTheirSizeAndToCredit) {
  FakeLimits limits;
  limits.max_batch_messages = 100;
  limits.credit_items = 5;
  StartServer(limits);
  Connect();
  // 24 bytes a row: 62, 12 and 96 KiB.
  const ScoreCase half = MatrixCase(2600, 3, 80), small = MatrixCase(512, 3, 81),
                  large = MatrixCase(4096, 3, 82);
  std::vector<std::pair<const ScoreCase*, std::future<Outcome>>> futures;
  std::promise<void> submitted;
  client_->Submit(RequestOf(small), [&](const Outcome&) {
    for (const ScoreCase* c : {&half, &half, &half, &small, &small, &small, &small, &small, &small,
                               &small, &large, &small}) {
      futures.emplace_back(c, client_->Submit(RequestOf(*c)));
    }
    submitted.set_value();
  });
  submitted.get_future().wait();
  for (auto& [c, future] : futures) ExpectAnswer(*c, future.get());
  // Two halves fill one; of the others no more are out than credit allows (the fake checks that too).
  const std::vector<int> batches = server_->batches();
  ASSERT_GE(batches.size(), 2u);
  EXPECT_EQ(batches[1], 2);
  for (const int messages : batches) EXPECT_LE(messages, 5);
}

// What is bulk waits for its answers while small requests come.
TEST_F(ClientTest, OpensAConnectionForSmallRequestsBesideBulk) {
  std::promise<void> answer_bulk;
  std::shared_future<void> may_answer = answer_bulk.get_future().share();
  StartServer({}, {[may_answer](FakeStream& stream) {
                     stream.Hello();
                     v1::StreamRequest message;
                     if (!stream.Read(&message)) return grpc::Status::OK;
                     may_answer.wait();
                     do {
                       stream.Write(stream.Score(message));
                     } while (stream.Read(&message));
                     return grpc::Status::OK;
                   },
                   Serve});
  Connect();
  const ScoreCase bulk = MatrixCase(6000, 3, 90), small = MatrixCase(100, 3, 91);
  std::future<Outcome> bulk_answer = client_->Submit(RequestOf(bulk));
  // Those that come before the new connection is there go to the first, to wait with the bulk.
  std::vector<std::future<Outcome>> small_answers;
  bool answered = false;
  for (int i = 0; i < 5000 && !answered; ++i) {
    small_answers.push_back(client_->Submit(RequestOf(small)));
    answered =
        small_answers.back().wait_for(std::chrono::milliseconds(1)) == std::future_status::ready;
  }
  EXPECT_EQ(server_->streams(), 2);
  EXPECT_EQ(client_->channels(), 2);
  answer_bulk.set_value();
  ExpectAnswer(bulk, bulk_answer.get());
  for (std::future<Outcome>& answer : small_answers) ExpectAnswer(small, answer.get());
  EXPECT_EQ(server_->streams(), 2);
}

TEST_F(ClientTest, AsksForCapabilities) {
  FakeLimits limits;
  limits.credit_bytes = 12345;
  StartServer(limits);
  Connect();
  EXPECT_EQ(client_->numerics_id(), "fake/1");
  const absl::StatusOr<ServerCapabilities> c = client_->Capabilities();
  ASSERT_THAT(c, IsOk());
  EXPECT_EQ(c->backend, "reference");
  EXPECT_EQ(c->numerics_id, "fake/1");
  EXPECT_THAT(c->losses, ElementsAre(Loss::kSigmoidCrossEntropy));
  EXPECT_THAT(c->prediction_dtypes, ElementsAre(DType::kF32));
  EXPECT_THAT(c->label_dtypes, ElementsAre(DType::kU8));
  EXPECT_THAT(c->class_id_dtypes, ElementsAre(DType::kI64));
  EXPECT_THAT(c->gradient_dtypes, ElementsAre(DType::kBF16));
  EXPECT_EQ(c->stream_credit_bytes, 12345);
  EXPECT_THAT(c->unimplemented_fields, ElementsAre("spec.q"));
}

}  // namespace
}  // namespace softloss::testing
