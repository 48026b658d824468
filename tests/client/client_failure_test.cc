// What goes wrong: refusals, deadlines, broken streams, servers that answer nonsense.
#include <future>
#include <optional>

#include "softloss/client.h"
#include "tests/client/client_fixture.h"

namespace softloss::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "going down"}; }

v1::ItemError Error(absl::StatusCode code, const std::string& message, bool retryable) {
  v1::ItemError error;
  error.set_code(static_cast<int>(code));
  error.set_message(message);
  error.set_field("label");
  error.set_retryable(retryable);
  return error;
}

// Answers nothing; returns when the client goes.
grpc::Status Ignore(FakeStream& stream) {
  stream.Hello();
  v1::StreamRequest message;
  while (stream.Read(&message)) {
  }
  return grpc::Status::OK;
}

TEST_F(ClientTest, GivesABadItemItsOwnError) {
  StartServer();
  Connect();
  ItemShape item;
  item.shape = {700, 3};
  item.class_axis = 1;
  item.label = {LabelKind::kClassId, DType::kI32};
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  Random random(1);
  const ScoreCase good = RandomCase(item, spec, {}, random);
  ScoreCase bad = good;
  reinterpret_cast<std::int32_t*>(bad.label.data())[5] = 3;

  auto first = client_->Submit(RequestOf(good));
  auto second = client_->Submit(RequestOf(bad));
  auto third = client_->Submit(RequestOf(good));
  ExpectAnswer(good, first.get());
  const Outcome refused = second.get();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3")));
  EXPECT_FALSE(IsRetryable(refused.status()));
  ExpectAnswer(good, third.get());
  EXPECT_EQ(server_->streams(), 1);
}

TEST_F(ClientTest, StopsSendingAnItemThatIsRefused) {
  std::promise<int> chunks_before_cancel;
  FakeLimits limits;
  limits.max_chunk_bytes = 256 * 24;
  limits.credit_bytes = 20000;
  StartServer(limits, {[&](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest message;
                stream.Read(&message);
                const std::uint64_t id = message.chunk().id();
                stream.Write(stream.Refuse(message, Error(absl::StatusCode::kResourceExhausted,
                                                          "label: too many", false)));
                int chunks = 1;
                while (stream.Read(&message)) {
                  if (message.has_cancel()) {
                    EXPECT_EQ(message.cancel().id(), id);
                    chunks_before_cancel.set_value(chunks);
                  } else {
                    ++chunks;
                    stream.Write(stream.Score(message));
                  }
                }
                return grpc::Status::OK;
              }});
  Connect();
  const ScoreCase large = MatrixCase(256 * 100, 3, 1);
  const Outcome refused = client_->Score(RequestOf(large));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too many")));
  EXPECT_EQ(GetErrorInfo(refused.status())->field, "label");
  // No more than the credit that was out before the refusal arrived.
  EXPECT_LE(chunks_before_cancel.get_future().get(), 5);
  const ScoreCase small = MatrixCase(10, 3, 2);
  ExpectAnswer(small, client_->Score(RequestOf(small)));
}

TEST_F(ClientTest, TriesARetryableRefusalAgain) {
  FakeScorer::Script busy_once = [](FakeStream& stream) {
    stream.Hello();
    v1::StreamRequest message;
    for (int n = 0; stream.Read(&message); ++n) {
      stream.Write(n == 0 ? stream.Refuse(message, Error(absl::StatusCode::kResourceExhausted,
                                                         "server: busy", true))
                          : stream.Score(message));
    }
    return grpc::Status::OK;
  };
  StartServer({}, {busy_once});
  Connect();
  const ScoreCase c = MatrixCase(20, 3, 1);
  const Outcome outcome = client_->Score(RequestOf(c));
  ExpectAnswer(c, outcome);
  EXPECT_EQ(outcome->attempts, 2);
  EXPECT_EQ(server_->items()[0].request_key(), server_->items()[1].request_key());

  ClientOptions options = QuickOptions();
  options.retry = false;
  Connect(options);
  const Outcome refused = client_->Score(RequestOf(c));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("busy")));
  EXPECT_TRUE(IsRetryable(refused.status()));
}

TEST_F(ClientTest, NamesTheFieldOfAnInvalidRequest) {
  FakeLimits limits;
  limits.max_chunk_bytes = 10000;
  StartServer(limits);
  Connect();
  const ScoreCase c = MatrixCase(4, 3, 1);
  const auto expect = [&](ScoreRequest request, const std::string& field) {
    const Outcome outcome = client_->Score(request);
    EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field + ":")));
    const std::optional<ErrorInfo> info = GetErrorInfo(outcome.status());
    ASSERT_TRUE(info.has_value()) << field;
    EXPECT_EQ(info->field, field);
    EXPECT_FALSE(info->retryable);
  };
  ScoreRequest request = RequestOf(c);
  request.prediction = nullptr;
  expect(request, "prediction");
  request = RequestOf(c);
  request.label = nullptr;
  expect(request, "label");
  request = RequestOf(c);
  request.mask = c.label.data();
  expect(request, "mask");
  request = RequestOf(c);
  request.item.has_row_weight = true;
  expect(request, "row_weight");
  request = RequestOf(c);
  request.item.prediction = DType::kU8;
  expect(request, "prediction.dtype");
  request = RequestOf(c);
  request.spec.label_smoothing = 1.5f;
  expect(request, "label_smoothing");
  const ScoreCase wide = MatrixCase(2, 2000, 1);
  expect(RequestOf(wide), "prediction.shape");
}

TEST_F(ClientTest, GivesUpAtTheDeadlineAndTellsTheServer) {
  std::promise<std::uint64_t> cancelled;
  StartServer({}, {[&](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest ignored, message;
                stream.Read(&ignored);
                stream.Read(&message);
                EXPECT_TRUE(message.has_cancel());
                cancelled.set_value(message.cancel().id());
                // Too late, and harmless.
                stream.Write(stream.Score(ignored));
                while (stream.Read(&message)) stream.Write(stream.Score(message));
                return grpc::Status::OK;
              }});
  Connect();
  const ScoreCase c = MatrixCase(900, 3, 1);
  ScoreRequest request = RequestOf(c);
  request.timeout = absl::Milliseconds(20);
  const Outcome outcome = client_->Score(request);
  EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("timeout")));
  EXPECT_TRUE(IsRetryable(outcome.status()));
  cancelled.get_future().get();
  ExpectAnswer(c, client_->Score(RequestOf(c)));
  EXPECT_EQ(server_->streams(), 1);
  EXPECT_GT(server_->items()[0].timeout_ns(), 0u);
  EXPECT_LE(server_->items()[0].timeout_ns(), 20'000'000u);
  EXPECT_EQ(server_->items()[1].timeout_ns(), 0u);
}

TEST_F(ClientTest, NeverSendsWhatIsLateAlready) {
  StartServer();
  Connect();
  const ScoreCase c = MatrixCase(9, 3, 1);
  for (const absl::Duration timeout : {absl::ZeroDuration(), -absl::InfiniteDuration()}) {
    ScoreRequest request = RequestOf(c);
    request.timeout = timeout;
    EXPECT_THAT(client_->Score(request),
                StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("timeout")));
  }
  EXPECT_THAT(server_->items(), ::testing::IsEmpty());
}

// A server that reads nothing leaves the tensors in gRPC's hands: the client must not wait for it.
TEST_F(ClientTest, KeepsTheDeadlineWhenTheServerStopsReading) {
  std::promise<void> done;
  std::shared_future<void> wait = done.get_future().share();
  FakeLimits limits;
  limits.credit_bytes = 1 << 30;
  StartServer(limits, {[wait](FakeStream& stream) {
                         stream.Hello();
                         wait.wait();
                         return grpc::Status::OK;
                       },
                       Serve});
  Connect();
  const ScoreCase large = MatrixCase(1 << 20, 3, 1);  // 24 MiB: more than windows and buffers hold
  ScoreRequest request = RequestOf(large);
  request.timeout = absl::Milliseconds(100);
  EXPECT_THAT(client_->Score(request),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("timeout")));
  // The stalled connection was given up; another one works.
  const ScoreCase small = MatrixCase(9, 3, 1);
  ExpectAnswer(small, client_->Score(RequestOf(small)));
  done.set_value();
}

// Stream 0 answers all chunks but the last of the third item, then breaks.
grpc::Status BreakMidway(FakeStream& stream) {
  stream.Hello();
  v1::StreamRequest message;
  for (int items = 0; stream.Read(&message);) {
    items += message.chunk().has_item();
    if (items == 3 && message.chunk().last()) break;
    stream.Write(stream.Score(message));
  }
  return Unavailable();
}

TEST_F(ClientTest, ReplaysWhatABrokenStreamLeft) {
  FakeLimits limits;
  limits.max_chunk_bytes = 256 * 24 * 2;
  StartServer(limits, {BreakMidway, Serve});
  Connect();
  std::vector<ScoreCase> cases;
  for (int i = 0; i < 6; ++i) cases.push_back(MatrixCase(1500, 3, i));
  std::vector<int> answers(cases.size());
  std::vector<std::promise<Outcome>> promises(cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    client_->Submit(RequestOf(cases[i]), [&, i](Outcome outcome) {
      ++answers[i];
      promises[i].set_value(std::move(outcome));
    });
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Outcome outcome = promises[i].get_future().get();
    ExpectAnswer(cases[i], outcome);
    if (i < 2) {
      EXPECT_EQ(outcome->attempts, 1);
    }
    if (i == 2) {
      EXPECT_EQ(outcome->attempts, 2);
    }
  }
  client_.reset();
  for (const int n : answers) EXPECT_EQ(n, 1);
  EXPECT_EQ(server_->streams(), 2);

  // The item that was partly answered went out again under its key, bound to the same numerics.
  const std::vector<v1::Item> items = server_->items();
  int third = 0;
  for (const v1::Item& item : items) {
    EXPECT_EQ(item.request_key().size(), 16u);
    if (item.request_key() != items[2].request_key()) {
      EXPECT_EQ(item.required_numerics_id(), "");
      continue;
    }
    EXPECT_EQ(item.required_numerics_id(), third == 0 ? "" : "fake/1");
    EXPECT_FALSE(item.allow_numerics_change());
    ++third;
  }
  EXPECT_EQ(third, 2);
}

TEST_F(ClientTest, FollowsAServerThatRestarts) {
  StartServer({}, {[](FakeStream& stream) {
                     stream.Hello();
                     v1::StreamRequest message;
                     stream.Read(&message);
                     stream.Read(&message);
                     return Unavailable();
                   },
                   Ignore});
  Connect();
  const ScoreCase c = MatrixCase(300, 3, 1);
  auto first = client_->Submit(RequestOf(c));
  auto second = client_->Submit(RequestOf(c));
  // Both are out on the second stream, or will be; then the server goes altogether.
  server_->Shutdown();
  StartServer();
  ExpectAnswer(c, first.get());
  ExpectAnswer(c, second.get());
}

TEST_F(ClientTest, FailsWithARetryableErrorWithoutRetry) {
  StartServer({}, {BreakMidway, Serve});
  ClientOptions options = QuickOptions();
  options.retry = false;
  Connect(options);
  const ScoreCase c = MatrixCase(100, 3, 1);
  ExpectAnswer(c, client_->Score(RequestOf(c)));
  ExpectAnswer(c, client_->Score(RequestOf(c)));
  const Outcome outcome = client_->Score(RequestOf(c));
  EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("going down")));
  EXPECT_TRUE(IsRetryable(outcome.status()));
  // The client itself recovers.
  ExpectAnswer(c, client_->Score(RequestOf(c)));
}

TEST_F(ClientTest, TakesAnEarlyEndForABreak) {
  StartServer({}, {[](FakeStream& stream) {
                     stream.Hello();
                     v1::StreamRequest message;
                     stream.Read(&message);
                     return grpc::Status::OK;
                   },
                   Serve});
  Connect();
  const ScoreCase c = MatrixCase(100, 3, 1);
  const Outcome outcome = client_->Score(RequestOf(c));
  ExpectAnswer(c, outcome);
  EXPECT_EQ(outcome->attempts, 2);
}

TEST_F(ClientTest, GivesUpAfterMaxAttempts) {
  StartServer({}, {[](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest message;
                stream.Read(&message);
                return Unavailable();
              }});
  ClientOptions options = QuickOptions();
  options.max_attempts = 4;
  Connect(options);
  const ScoreCase c = MatrixCase(100, 3, 1);
  const Outcome outcome = client_->Score(RequestOf(c));
  EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("going down")));
  EXPECT_TRUE(IsRetryable(outcome.status()));
  EXPECT_EQ(server_->items().size(), 4u);
}

TEST_F(ClientTest, DoesNotReplayWhatTheServerCallsMalformed) {
  StartServer({}, {[](FakeStream& stream) {
                     stream.Hello();
                     v1::StreamRequest message;
                     stream.Read(&message);
                     return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "malformed message");
                   },
                   Serve});
  Connect();
  const ScoreCase c = MatrixCase(100, 3, 1);
  const Outcome outcome = client_->Score(RequestOf(c));
  EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("malformed")));
  EXPECT_FALSE(IsRetryable(outcome.status()));
  ExpectAnswer(c, client_->Score(RequestOf(c)));
  EXPECT_EQ(server_->items().size(), 2u);
}

// What a server may not answer, each time to a request of two chunks of 256 and 44 rows.
TEST_F(ClientTest, RefusesAnswersThatTheContractDoesNotAllow) {
  struct Fault {
    const char* name;
    std::function<void(v1::StreamResponse& reply)> make;  // of the first chunk's reply
    const char* says;
  };
  const Fault faults[] = {
      {"gradient too short", [](auto& r) { r.mutable_gradient()->pop_back(); }, "gradient"},
      {"row losses unasked", [](auto& r) { r.set_row_loss("abcd"); }, "row_loss"},
      {"rows never sent", [](auto& r) { r.mutable_chunk()->set_row_begin(512); },
       "not outstanding"},
      {"rows out of step", [](auto& r) { r.mutable_chunk()->set_row_begin(1); }, "not outstanding"},
      {"negative rows", [](auto& r) { r.mutable_chunk()->set_row_begin(-256); }, "not outstanding"},
      {"too few rows", [](auto& r) { r.mutable_chunk()->set_rows(255); }, "not outstanding"},
      {"early result", [](auto& r) { r.mutable_chunk()->mutable_result(); }, "chunk.result"},
  };
  const ScoreCase c = MatrixCase(300, 3, 1);
  for (const Fault& fault : faults) {
    FakeLimits limits;
    limits.max_chunk_bytes = 256 * 24;
    StartServer(limits, {[&fault](FakeStream& stream) {
                  stream.Hello();
                  v1::StreamRequest message;
                  stream.Read(&message);
                  v1::StreamResponse reply = stream.Score(message);
                  fault.make(reply);
                  stream.Write(reply);
                  while (stream.Read(&message)) {
                    if (message.has_chunk()) stream.Write(stream.Score(message));
                  }
                  return grpc::Status::OK;
                }});
    Connect();
    const Outcome outcome = client_->Score(RequestOf(c));
    EXPECT_THAT(outcome, StatusIs(absl::StatusCode::kInternal, HasSubstr(fault.says)))
        << fault.name;
    EXPECT_FALSE(IsRetryable(outcome.status()));
    ExpectAnswer(c, client_->Score(RequestOf(c)));
    EXPECT_EQ(server_->streams(), 1) << fault.name;
    client_.reset();
  }
}

TEST_F(ClientTest, RefusesAChunkAnsweredTwice) {
  FakeLimits limits;
  limits.max_chunk_bytes = 256 * 24;
  StartServer(limits, {[](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest message;
                stream.Read(&message);
                v1::StreamResponse reply = stream.Score(message);
                stream.Write(reply);
                reply.mutable_chunk()->clear_returned();
                stream.Write(reply);
                return Ignore(stream);
              }});
  Connect();
  const ScoreCase c = MatrixCase(300, 3, 1);
  EXPECT_THAT(client_->Score(RequestOf(c)),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not outstanding")));
}

TEST_F(ClientTest, CancelsWhatIsOutstandingWhenItGoes) {
  std::promise<void> arrived;
  StartServer({}, {[&](FakeStream& stream) {
                stream.Hello();
                v1::StreamRequest message;
                stream.Read(&message);
                arrived.set_value();
                while (stream.Read(&message)) {
                }
                return grpc::Status::OK;
              }});
  Connect();
  const ScoreCase c = MatrixCase(5000, 3, 1);
  std::vector<std::future<Outcome>> futures;
  for (int i = 0; i < 200; ++i) futures.push_back(client_->Submit(RequestOf(c)));
  arrived.get_future().get();
  Client copy = *client_;
  client_.reset();
  auto last = copy.Submit(RequestOf(c));  // a copy keeps it all alive
  client_ = std::make_unique<Client>(std::move(copy));
  client_.reset();
  for (std::future<Outcome>& f : futures) {
    EXPECT_THAT(f.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("destroyed")));
  }
  EXPECT_THAT(last.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("destroyed")));
}

TEST_F(ClientTest, MayGoFromItsOwnCallback) {
  StartServer();
  Connect();
  const ScoreCase c = MatrixCase(100, 3, 1);
  std::promise<Outcome> promise;
  const Client& client = *client_;
  client.Submit(RequestOf(c), [&](Outcome outcome) {
    client_.reset();  // the last copy
    promise.set_value(std::move(outcome));
  });
  ExpectAnswer(c, promise.get_future().get());
}

TEST_F(ClientTest, SaysWhenThereIsNoServer) {
  ClientOptions options = QuickOptions();
  options.connect_timeout = absl::Milliseconds(30);
  const absl::StatusOr<Client> client = Client::Connect(folder_.address(), options);
  EXPECT_THAT(client, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("connect_timeout")));
  EXPECT_TRUE(IsRetryable(client.status()));
}

TEST_F(ClientTest, DoesNotWaitForAGreetingForEver) {
  StartServer({}, {[](FakeStream& stream) {
                v1::StreamRequest message;
                while (stream.Read(&message)) {
                }
                return grpc::Status::OK;
              }});
  ClientOptions options = QuickOptions();
  options.connect_timeout = absl::Milliseconds(50);
  EXPECT_THAT(Client::Connect(folder_.address(), options),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("greet")));
}

TEST_F(ClientTest, ConnectsOnceTheServerIsThere) {
  auto client = std::async(std::launch::async,
                           [&] { return Client::Connect(folder_.address(), QuickOptions()); });
  StartServer();
  EXPECT_THAT(client.get(), IsOk());
}

TEST_F(ClientTest, ReportsAServerThatIsNoScorer) {
  StartServer({}, {[](FakeStream&) {
                return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no such method");
              }});
  EXPECT_THAT(Client::Connect(folder_.address(), QuickOptions()),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no such method")));
}

TEST_F(ClientTest, NamesAnOptionOutOfRange) {
  const auto expect = [](auto set, const std::string& option) {
    ClientOptions options;
    set(options);
    EXPECT_THAT(Client::Connect("unix:/nowhere", options),
                StatusIs(absl::StatusCode::kInvalidArgument, ::testing::StartsWith(option + ":")));
  };
  expect([](auto& o) { o.channels = -1; }, "channels");
  expect([](auto& o) { o.max_attempts = 0; }, "max_attempts");
  expect([](auto& o) { o.max_chunk_bytes = 0; }, "max_chunk_bytes");
  expect([](auto& o) { o.connect_timeout = absl::ZeroDuration(); }, "connect_timeout");
  expect([](auto& o) { o.max_backoff = absl::ZeroDuration(); }, "max_backoff");
}

}  // namespace
}  // namespace softloss::testing
