// Clients that do what no client library does: what each of them costs is bounded, and the others are
// served meanwhile.

#include <algorithm>
#include <cmath>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/server/server_fixture.h"
#include "tests/testing/http2_connection.h"
#include "tests/testing/http_exchange.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;
using testing::Http2Connection;

constexpr char kStream[] = "/softloss.v1.Scorer/ScoreStream";
constexpr std::int64_t kBudget = 8 << 20;
constexpr std::int64_t kCredit = 256 << 10;
constexpr std::int64_t kCreditItems = 32;
constexpr std::int64_t kMaxStreams = 64;

class HostileClientsTest : public ServerTest {
 protected:
  ServerOptions Options() const override {
    ServerOptions options = ServerTest::Options();
    options.metrics_listen = "127.0.0.1:0";
    options.global_budget_bytes = kBudget;
    options.stream_credit_bytes = kCredit;
    options.stream_credit_items = kCreditItems;
    options.max_message_bytes = 192 << 10;
    options.max_chunk_bytes = 64 << 10;
    options.max_streams = kMaxStreams;
    options.spill_bytes = 1;  // items are in flight while the next is read
    return options;
  }

  void SetUp() override {
    ServerTest::SetUp();
    idle_fds_ = Metric("process_open_fds");
  }
  // Whatever the clients did, nothing of theirs is left, and the server stops without their help.
  void TearDown() override {
    Await([&] {
      return Metric("softloss_streams_active") == 0 && Metric("softloss_budget_used_bytes") == 0 &&
             Metric("softloss_slab_in_use_bytes") == 0 && Metric("softloss_inflight_items") == 0;
    });
    EXPECT_TRUE(server_->Shutdown());
  }

  // The value of a metric without labels.
  double Metric(const std::string& name) const {
    const std::string all = "\n" + testing::Get(server_->metrics_address(), "/metrics");
    const std::size_t at = all.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return std::strtod(all.c_str() + at + name.size() + 2, nullptr);
  }

  std::string address() const { return server_->addresses()[0]; }

  // A request of another client's is answered. By then the I/O thread has seen what came before it.
  // Returns the request's bytes.
  double ServeAnother() {
    v1::ScoreRequest request;
    request.mutable_item()->mutable_spec()->set_loss(v1::SIGMOID_CROSS_ENTROPY);
    FillSigmoid({0}, {0.5f}, request.mutable_item(), request.mutable_prediction(),
                request.mutable_label());
    grpc::ClientContext context;
    v1::ScoreResponse response;
    const grpc::Status status = stub_->Score(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_NEAR(response.result().loss(), std::log(2.0), 7e-7);
    return static_cast<double>(request.ByteSizeLong());
  }

  // Serves others until `condition` holds.
  template <typename Condition>
  void Await(Condition condition) {
    while (!condition() && !HasFailure()) ServeAnother();
  }

  // Opens a stream and defines its loss.
  static std::uint32_t Open(Http2Connection& client) {
    const std::uint32_t stream = client.Begin(kStream);
    client.Send(stream, Message(Define(1, v1::SIGMOID_CROSS_ENTROPY)));
    return stream;
  }
  static std::string Message(const v1::StreamRequest& request) {
    return Http2Connection::Framed(request.SerializeAsString());
  }
  // An item of `elements`, which takes 8 bytes of each to send, and 4 to answer.
  static std::string Item(std::uint64_t id, std::size_t elements) {
    return Message(
        SigmoidChunk(id, std::vector<float>(elements), std::vector<float>(elements, 0.5f)));
  }
  static v1::StreamResponse Reply(Http2Connection& client, std::uint32_t stream) {
    v1::StreamResponse reply;
    EXPECT_TRUE(reply.ParseFromString(client.Message(stream)));
    return reply;
  }

  double idle_fds_ = 0;
};

// Sends in frames what the server allows, until it has allowed nothing while `kPatience` others were
// served. Returns how many bytes that was, `most` at most.
std::int64_t SendWhileAllowed(Http2Connection& client, std::uint32_t stream, std::int64_t most,
                              const std::function<std::string(std::uint64_t)>& item,
                              const std::function<void()>& serve_another) {
  constexpr int kPatience = 50;
  constexpr std::size_t kFrame = 16 << 10;
  std::string bytes;
  std::int64_t sent = 0;
  std::uint64_t id = 0;
  for (int idle = 0; idle < kPatience && sent < most;) {
    if (bytes.empty()) bytes = item(++id);
    const std::size_t size = std::min(kFrame, bytes.size());
    if (client.Allowed(stream) < static_cast<std::int64_t>(size)) {
      serve_another();
      client.TakeArrived();
      ++idle;
      continue;
    }
    client.Send(stream, std::string_view(bytes).substr(0, size));
    bytes.erase(0, size);
    sent += static_cast<std::int64_t>(size);
    idle = 0;
  }
  return sent;
}

TEST_F(HostileClientsTest, OneThatDoesNotReadIsNotReadFrom) {
  Http2Connection client(address(), Http2Connection::kSmallestWindow);
  const std::uint32_t stream = Open(client);
  const double idle = Metric("softloss_received_bytes_total");
  // Replies that fit into the client's window, then into its credit; each is half its request.
  constexpr std::int64_t kRead = 2 * (Http2Connection::kSmallestWindow + kCredit) + (64 << 10);
  // gRPC receives ahead of its reader, as much as its own windows allow.
  constexpr std::int64_t kAhead = 16 << 20;
  double most_used = 0, others = 0;
  const std::int64_t sent = SendWhileAllowed(
      client, stream, 2 * kAhead, [](std::uint64_t id) { return Item(id, 2048); },
      [&] {
        others += ServeAnother();
        most_used = std::max(most_used, Metric("softloss_budget_used_bytes"));
      });
  EXPECT_LT(sent, kRead + kAhead);
  const double read = Metric("softloss_received_bytes_total") - idle - others;
  EXPECT_GT(read, kRead / 2);
  EXPECT_LT(read, kRead);
  EXPECT_GT(most_used, kCredit / 2);
  EXPECT_LT(most_used, 3 * kCredit);
}

TEST_F(HostileClientsTest, OneThatIgnoresItsCreditIsReadAsFastAsItIsScored) {
  Http2Connection client(address());
  const std::uint32_t stream = Open(client);
  constexpr std::uint64_t kItems = 4000;
  constexpr std::size_t kElements = 1000;
  std::uint64_t answered = 0;
  double most_items = 0, most_used = 0;
  const auto take = [&](bool wait) {
    while (answered < kItems) {
      if (!wait && !client.HasMessage(stream)) break;
      const v1::StreamResponse reply = Reply(client, stream);
      if (!reply.has_chunk()) continue;
      EXPECT_NEAR(reply.chunk().result().loss(), std::log(2.0), 7e-7);
      EXPECT_EQ(reply.gradient().size(), 4 * kElements);
      ++answered;
    }
  };
  for (std::uint64_t id = 1; id <= kItems; ++id) {
    client.Send(stream, Item(id, kElements));
    take(false);
    if (id % 40 != 0) continue;
    most_items = std::max(most_items, Metric("softloss_inflight_items"));
    most_used = std::max(most_used, Metric("softloss_budget_used_bytes"));
  }
  take(true);
  EXPECT_EQ(answered, kItems);
  EXPECT_LE(most_items, kCreditItems + 1);
  EXPECT_LT(most_used, 3 * kCredit);
}

TEST_F(HostileClientsTest, AFloodThatNeedsNoCreditKeepsNothing) {
  Http2Connection client(address());
  const std::uint32_t stream = Open(client);
  v1::StreamRequest cancel;
  for (std::uint64_t id = 0; id < 20000; ++id) {
    cancel.mutable_cancel()->set_id(id);
    client.Send(stream, Message(cancel) + Message(Define(1, v1::SIGMOID_CROSS_ENTROPY)));
    client.TakeArrived();
  }
  client.Send(stream, Item(1, 1));
  while (!Reply(client, stream).has_chunk()) {
  }
  // One definition, and no reply that was not asked for.
  EXPECT_LT(Metric("softloss_budget_used_bytes"), 1024);
  EXPECT_FALSE(client.HasMessage(stream));
}

TEST_F(HostileClientsTest, DefinitionsAreChargedAndLimited) {
  v1::StreamRequest large = Define(1, v1::SOFTMAX_CROSS_ENTROPY);
  for (int c = 0; c < 40000; ++c) large.mutable_define()->mutable_spec()->add_class_weight(1);
  const v1::StreamRequest small = Define(1, v1::SOFTMAX_CROSS_ENTROPY);
  for (v1::StreamRequest define : {small, large}) {
    grpc::ClientContext context;
    auto stream = ServerTest::Open(&context);
    std::uint32_t written = 0;
    for (; written < 100000; ++written) {
      define.mutable_define()->set_spec_id(written + 1);
      if (!stream->Write(define)) break;
    }
    EXPECT_LT(written, 100000u);
    EXPECT_LE(Metric("softloss_budget_used_bytes"), kBudget);
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  }
}

TEST_F(HostileClientsTest, AFloodOfRefusedItemsEndsTheStream) {
  Http2Connection client(address());
  const std::uint32_t stream = Open(client);
  v1::StreamRequest request;
  request.mutable_chunk()->set_rows(1);  // of what item it does not say, nor that it is the last
  for (std::uint64_t id = 1; id < 100000 && !client.ended(stream); ++id) {
    request.mutable_chunk()->set_id(id);
    client.Send(stream, Message(request));
    client.TakeArrived();
  }
  client.AwaitEnd(stream);
  int refused = 0;
  while (client.HasMessage(stream)) refused += Reply(client, stream).chunk().has_error();
  EXPECT_LE(refused, kCreditItems + 1);
}

TEST_F(HostileClientsTest, StreamsThatEndAtOnceLeaveNothing) {
  Http2Connection client(address());
  for (int i = 0; i < 300; ++i) {
    // Without a word; after a definition; within an item; within a message; within its prefix.
    const std::uint32_t silent = client.Begin(kStream, true);
    const std::uint32_t defined = client.Begin(kStream);
    client.Send(defined, Message(Define(1, v1::SIGMOID_CROSS_ENTROPY)), true);
    const std::uint32_t begun = Open(client);
    v1::StreamRequest part = SigmoidChunk(1, std::vector<float>(256), std::vector<float>(256));
    part.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0, 1000);
    part.mutable_chunk()->set_last(false);
    client.Send(begun, Message(part), true);
    const std::uint32_t cut = Open(client);
    client.Send(cut, Item(1, 100).substr(0, 200), true);
    const std::uint32_t prefix = Open(client);
    client.Send(prefix, std::string(3, '\0'), true);
    for (const std::uint32_t stream : {silent, defined, begun, cut, prefix}) {
      client.AwaitEnd(stream);
    }
    v1::StreamResponse reply = Reply(client, begun);
    while (!reply.chunk().has_error()) reply = Reply(client, begun);
    EXPECT_THAT(reply.chunk().error().message(), HasSubstr("256 of 1000 rows"));
  }
}

TEST_F(HostileClientsTest, StreamsThatNeverEndAreLimitedAndIdle) {
  Http2Connection client(address());
  std::vector<std::uint32_t> streams;
  for (int i = 0; i < kMaxStreams; ++i) {
    streams.push_back(Open(client));
    client.Send(streams.back(), Item(1, 100));
  }
  for (const std::uint32_t stream : streams) {
    while (!Reply(client, stream).has_chunk()) {
    }
  }
  Await([&] { return Metric("softloss_inflight_items") == 0; });
  EXPECT_EQ(Metric("softloss_streams_active"), kMaxStreams);
  // A definition each.
  EXPECT_LT(Metric("softloss_budget_used_bytes"), kMaxStreams * 100);
  // A shutdown does not wait for them.
  EXPECT_TRUE(server_->Shutdown());
  for (const std::uint32_t stream : streams) client.AwaitEnd(stream);
  Start(Options());
}

TEST_F(HostileClientsTest, TooManyStreamsEndTheConnection) {
  Http2Connection client(address());
  for (int i = 0; i < kMaxStreams; ++i) Open(client);
  Await([&] { return Metric("softloss_streams_active") == kMaxStreams; });
  client.TakeArrived();  // the limit holds once it has been acknowledged
  // gRPC lets one more through.
  const auto open_more = [&] {
    for (int i = 0; i < 100; ++i) {
      client.Begin(kStream);
      ServeAnother();
      client.TakeArrived();
    }
  };
  EXPECT_THROW(open_more(), std::runtime_error);
}

TEST_F(HostileClientsTest, TenThousandTinyStreamsLeaveNothing) {
  Http2Connection client(address());
  constexpr int kStreams = 10000, kAtOnce = 50;
  for (int opened = 0; opened < kStreams; opened += kAtOnce) {
    std::vector<std::uint32_t> streams;
    for (int i = 0; i < kAtOnce; ++i) {
      streams.push_back(Open(client));
      client.Send(streams.back(), Item(1, 1), true);
    }
    for (const std::uint32_t stream : streams) {
      client.AwaitEnd(stream);
      v1::StreamResponse reply = Reply(client, stream);
      while (!reply.has_chunk()) reply = Reply(client, stream);
      ASSERT_NEAR(reply.chunk().result().loss(), std::log(2.0), 7e-7);
      client.Forget(stream);
    }
  }
  EXPECT_LE(Metric("process_open_fds"), idle_fds_ + 2);
}

TEST_F(HostileClientsTest, StreamsThatAreResetAtOnceLeaveNothing) {
  Http2Connection client(address());
  for (int i = 0; i < 10000; ++i) {
    const std::uint32_t stream = i % 2 == 0 ? client.Begin(kStream) : Open(client);
    if (i % 4 == 3) client.Send(stream, Item(1, 1000));
    client.Reset(stream);
    client.TakeArrived();
    client.Forget(stream);
  }
  const std::uint32_t last = Open(client);
  client.Send(last, Item(1, 1), true);
  client.AwaitEnd(last);
}

// gRPC collects all of a message before it looks at its length. Whose streams it ends when the quota is
// used up is its own choice; once the endless message is gone, everybody is served.
TEST_F(HostileClientsTest, AMessageWithoutEndIsCutOffAndTheServerLivesOn) {
  Http2Connection client(address());
  const std::uint32_t stream = client.Begin(kStream);
  client.Send(stream, std::string(1, '\0') + "\xff\xff\xff\xff");  // four gigabytes follow
  const std::string block(16 << 10, 'x');
  std::int64_t sent = 0;
  while (!client.ended(stream) && sent < 16 * kBudget) {
    client.Send(stream, block);
    sent += static_cast<std::int64_t>(block.size());
    client.TakeArrived();
  }
  EXPECT_GT(sent, kBudget / 8);
  EXPECT_LT(sent, 8 * kBudget);
  ServeAnother();
  Http2Connection other(address());
  const std::uint32_t others = Open(other);
  other.Send(others, Item(1, 1));
  while (!Reply(other, others).has_chunk()) {
  }
}

TEST_F(HostileClientsTest, APromisedMessageTakesNoMemory) {
  Http2Connection client(address());
  for (int i = 0; i < kMaxStreams; ++i) {
    client.Send(client.Begin(kStream), std::string("\x00\x00\x02\xff\xff", 5));
  }
  Await([&] { return Metric("softloss_streams_active") == kMaxStreams; });
  EXPECT_EQ(Metric("softloss_budget_used_bytes"), 0);
}

}  // namespace
}  // namespace softloss
