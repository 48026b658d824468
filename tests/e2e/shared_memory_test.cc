// Client and server on one host: tensors that do not travel.
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "server/memory_socket.h"
#include "server/metrics.h"
#include "server/server.h"
#include "softloss/client.h"
#include "softloss/v1/scorer.grpc.pb.h"
#include "tests/testing/fake_scorer.h"
#include "tests/testing/memfd.h"
#include "tests/testing/memory_peer.h"
#include "tests/testing/random.h"
#include "tests/testing/score_case.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using testing::FakeScorer;
using testing::FakeStream;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Mapping;
using testing::MemoryFile;
using testing::MemoryPeer;
using testing::Random;
using testing::RandomCase;
using testing::ScoreCase;
using ::testing::StartsWith;
using testing::StatusIs;

using Outcome = absl::StatusOr<ScoreResult>;

// A case whose tensors have been copied into memory of the client's.
struct SharedCase {
  SharedCase(const Client& client, const ScoreCase& c)
      : request{.spec = c.spec, .item = c.item}, c(c) {
    memory = *client.Allocate(Room(c.prediction.size()) + Room(c.label.size()));
    std::memcpy(memory.data(), c.prediction.data(), c.prediction.size());
    label = memory.span().data() + Room(c.prediction.size());
    std::memcpy(label, c.label.data(), c.label.size());
    request.prediction = memory.data();
    request.label = label;
    request.mask = c.mask.empty() ? nullptr : c.mask.data();
    request.row_weight = c.row_weight.empty() ? nullptr : c.row_weight.data();
    request.label_ids = c.label_ids.empty() ? nullptr : c.label_ids.data();
  }
  static std::size_t Room(std::size_t size) { return (size + 63) / 64 * 64; }

  ScoreRequest request;
  const ScoreCase& c;
  SharedMemory memory;
  std::byte* label;
};

ScoreRequest WireRequest(const ScoreCase& c) {
  ScoreRequest request{.spec = c.spec, .item = c.item};
  request.prediction = c.prediction.data();
  request.label = c.label.data();
  request.mask = c.mask.empty() ? nullptr : c.mask.data();
  request.row_weight = c.row_weight.empty() ? nullptr : c.row_weight.data();
  request.label_ids = c.label_ids.empty() ? nullptr : c.label_ids.data();
  return request;
}

ScoreCase SoftmaxCase(std::int64_t rows, std::int64_t classes, std::uint64_t seed = 1) {
  ItemShape item;
  item.shape = {rows, classes};
  item.class_axis = -1;
  item.gradient = DType::kF32;
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  Random random(seed);
  return RandomCase(item, spec, {}, random);
}

class SharedMemoryTest : public ::testing::Test {
 protected:
  SharedMemoryTest() {
    std::string name = (std::filesystem::temp_directory_path() / "softloss.XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~SharedMemoryTest() override {
    client_.reset();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string address() const { return "unix:" + folder_ + "/s"; }
  std::string memory_socket() const { return folder_ + "/s.memory"; }

  ServerOptions Options() const {
    ServerOptions options;
    options.listen = {address(), "127.0.0.1:0"};
    options.metrics_listen = "off";
    options.backend = "cpu";
    options.log_level = "error";
    return options;
  }

  void Start(const ServerOptions& options) {
    server_.reset();
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
  }
  void Start() { Start(Options()); }

  static Client Connect(const std::string& address) {
    ClientOptions options;
    options.initial_backoff = absl::Milliseconds(1);
    options.max_backoff = absl::Milliseconds(4);
    options.max_attempts = 1000;
    absl::StatusOr<Client> client = Client::Connect(address, options);
    if (!client.ok()) throw std::runtime_error(client.status().ToString());
    return *std::move(client);
  }
  Client& client() {
    if (client_ == nullptr) client_ = std::make_unique<Client>(Connect(address()));
    return *client_;
  }

  // Scores by shared memory and by the wire: every bit of the answers is the same.
  void ExpectEqual(const ScoreCase& c) {
    SharedCase shared(client(), c);
    const Outcome by_memory = client().Score(shared.request);
    const Outcome by_wire = client().Score(WireRequest(c));
    ASSERT_THAT(by_memory, IsOk()) << c.Describe();
    ASSERT_THAT(by_wire, IsOk()) << c.Describe();
    EXPECT_EQ(by_memory->transport, Transport::kSharedMemory) << c.Describe();
    EXPECT_EQ(by_wire->transport, Transport::kWire);
    EXPECT_EQ(by_memory->loss, by_wire->loss) << c.Describe();
    EXPECT_EQ(by_memory->loss_sum, by_wire->loss_sum);
    EXPECT_EQ(by_memory->gradient_l2_norm, by_wire->gradient_l2_norm);
    EXPECT_EQ(by_memory->valid_count, by_wire->valid_count);
    EXPECT_EQ(by_memory->conditions.unnormalized_labels, by_wire->conditions.unnormalized_labels);
    ASSERT_EQ(by_memory->gradient.size(), by_wire->gradient.size());
    EXPECT_EQ(
        std::memcmp(by_memory->gradient.data(), by_wire->gradient.data(), by_wire->gradient.size()),
        0)
        << c.Describe();
    ASSERT_EQ(by_memory->row_loss.size(), by_wire->row_loss.size());
    EXPECT_EQ(
        std::memcmp(by_memory->row_loss.data(), by_wire->row_loss.data(), by_wire->row_loss.size()),
        0)
        << c.Describe();
    // The server read, and wrote nowhere else.
    EXPECT_EQ(std::memcmp(shared.memory.data(), c.prediction.data(), c.prediction.size()), 0);
    EXPECT_EQ(std::memcmp(shared.label, c.label.data(), c.label.size()), 0);
  }

  std::string folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(SharedMemoryTest, AnswersEqualTheWiresBitForBit) {
  Start();
  Random random(7);
  const std::vector<std::vector<std::int64_t>> shapes = {
      {1, 2}, {300, 10}, {7, 21, 5, 4}, {1, 3, 1000}, {1000, 64}, {3, 1000}, {20000, 3}};
  int n = 0;
  for (const auto& shape : shapes) {
    for (const DType prediction : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
      for (const DType label : {prediction, DType::kU8, DType::kI32, DType::kI64}) {
        ItemShape item;
        item.shape = shape;
        item.class_axis = 1;
        item.prediction = prediction;
        item.label.dtype = label;
        item.label.kind = IsInteger(label) ? LabelKind::kClassId : LabelKind::kDense;
        ++n;
        if (!IsInteger(label) && n % 2 == 0) {
          item.label = {
              .kind = LabelKind::kSparse, .dtype = label, .k = 2, .tail = TailRule::kZero};
        }
        if (n % 5 != 0) item.gradient = n % 2 == 0 ? prediction : DType::kF32;
        item.has_mask = n % 3 == 0;
        item.has_row_weight = n % 4 == 0;
        item.want_row_loss = n % 7 == 0;
        LossSpec spec;
        spec.loss = n % 3 == 1 ? Loss::kSigmoidCrossEntropy : Loss::kSoftmaxCrossEntropy;
        ExpectEqual(RandomCase(item, spec, {}, random));
      }
    }
  }
}

TEST_F(SharedMemoryTest, OneMessageCarriesAnItemOfAnySize) {
  Start();
  const ScoreCase c = SoftmaxCase(32768, 128);  // 16 MiB of each
  SharedCase shared(client(), c);
  const Outcome outcome = client().Score(shared.request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kSharedMemory);
  ExpectEqual(c);
}

// Where the gradient goes decides too; and whatever is not in the client's memory travels.
TEST_F(SharedMemoryTest, EachRequestTakesTheWayThatItsTensorsAllow) {
  Start();
  const ScoreCase c = SoftmaxCase(1000, 10);
  SharedCase shared(client(), c);
  const Outcome want = client().Score(WireRequest(c));
  ASSERT_THAT(want, IsOk());
  const auto equal = [&](const void* gradient) {
    return std::memcmp(gradient, want->gradient.data(), 40000) == 0;
  };

  SharedMemory given = *client().Allocate(40000);
  ScoreRequest request = shared.request;
  request.gradient = given.data();
  Outcome outcome = client().Score(request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kSharedMemory);
  EXPECT_TRUE(outcome->gradient.empty());
  EXPECT_TRUE(equal(given.data()));

  std::vector<std::byte> ordinary(40000);
  request.gradient = ordinary.data();
  outcome = client().Score(request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kWire);
  EXPECT_TRUE(equal(ordinary.data()));

  request = shared.request;
  request.item.gradient.reset();
  outcome = client().Score(request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kSharedMemory);

  request = shared.request;
  request.label = c.label.data();
  EXPECT_EQ(client().Score(request)->transport, Transport::kWire);

  // The memory of one client is ordinary memory to another.
  const Client other = Connect(address());
  EXPECT_EQ(other.Score(shared.request)->transport, Transport::kWire);
  // By TCP the host is the same.
  const Client tcp = Connect(server_->addresses()[1]);
  SharedCase over_tcp(tcp, c);
  outcome = tcp.Score(over_tcp.request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kSharedMemory);
  EXPECT_TRUE(equal(outcome->gradient.data()));
}

TEST_F(SharedMemoryTest, ErrorsAreTheWires) {
  Start();
  ScoreCase c = SoftmaxCase(100, 4);
  c.item.label = {.kind = LabelKind::kClassId, .dtype = DType::kI32};
  c.label.assign(400, std::byte{0});
  const std::int32_t bad = 4;
  std::memcpy(c.label.data() + 4 * 42, &bad, 4);
  SharedCase shared(client(), c);
  const absl::Status by_memory = client().Score(shared.request).status();
  EXPECT_EQ(by_memory, client().Score(WireRequest(c)).status());
  EXPECT_THAT(by_memory, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("42")));
  // In place is refused: the kernels read the prediction again.
  const ScoreCase good = SoftmaxCase(100, 4);
  SharedCase twice(client(), good);
  ScoreRequest in_place = twice.request;
  in_place.gradient = twice.memory.data();
  EXPECT_THAT(client().Score(in_place),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith("item.gradient_memory.offset: must not overlap")));
}

TEST_F(SharedMemoryTest, HandlesMayGoWhileRequestsAreInFlight) {
  Start();
  const ScoreCase c = SoftmaxCase(5000, 64);
  const Outcome want = client().Score(WireRequest(c));
  ASSERT_THAT(want, IsOk());
  std::vector<std::future<Outcome>> futures;
  for (int i = 0; i < 20; ++i) {
    const SharedCase shared(client(), c);
    futures.push_back(client().Submit(shared.request));
  }
  for (std::future<Outcome>& future : futures) {
    const Outcome outcome = future.get();
    ASSERT_THAT(outcome, IsOk());
    EXPECT_EQ(outcome->transport, Transport::kSharedMemory);
    EXPECT_EQ(std::memcmp(outcome->gradient.data(), want->gradient.data(), want->gradient.size()),
              0);
  }
}

// Gradients come back in memory that is used again, and stays good while it is held.
TEST_F(SharedMemoryTest, GradientsOutliveTheClient) {
  Start();
  const ScoreCase c = SoftmaxCase(1000, 10);
  const Outcome want = client().Score(WireRequest(c));
  std::vector<Buffer> kept;
  const void* released = nullptr;
  {
    SharedCase shared(client(), c);
    for (int i = 0; i < 3; ++i) kept.push_back(std::move(client().Score(shared.request)->gradient));
    EXPECT_NE(kept[0].data(), kept[1].data());
    released = kept.back().data();
    kept.pop_back();
    kept.push_back(std::move(client().Score(shared.request)->gradient));
    EXPECT_EQ(kept.back().data(), released);
  }
  client_.reset();
  server_.reset();
  for (const Buffer& gradient : kept) {
    EXPECT_EQ(std::memcmp(gradient.data(), want->gradient.data(), 40000), 0);
  }
}

TEST_F(SharedMemoryTest, ARestartedServerGetsTheRegionsAgain) {
  Start();
  const ScoreCase c = SoftmaxCase(1000, 10);
  SharedCase shared(client(), c);
  const Outcome before = client().Score(shared.request);
  ASSERT_THAT(before, IsOk());
  // All that is needed is there, so that nothing new makes the client connect.
  const SharedMemory gradient = *client().Allocate(40000);
  shared.request.gradient = gradient.data();
  Start();
  const Outcome after = client().Score(shared.request);
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->transport, Transport::kSharedMemory);
  EXPECT_THAT(shared.memory.status(), IsOk());
  EXPECT_EQ(std::memcmp(gradient.data(), before->gradient.data(), 40000), 0);
}

TEST_F(SharedMemoryTest, AServerWithoutASocketGetsThemByTheWire) {
  Start();
  const ScoreCase c = SoftmaxCase(1000, 10);
  SharedCase shared(client(), c);
  const Outcome before = client().Score(shared.request);
  ASSERT_THAT(before, IsOk());
  ServerOptions options = Options();
  options.shared_memory_socket = "off";
  Start(options);
  const Outcome after = client().Score(shared.request);
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->transport, Transport::kWire);
  EXPECT_THAT(shared.memory.status(),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("shares")));
  EXPECT_EQ(std::memcmp(after->gradient.data(), before->gradient.data(), 40000), 0);
  EXPECT_FALSE(client().Capabilities()->shared_memory);
  EXPECT_THAT(client().Capabilities()->unimplemented_fields,
              ::testing::Contains("item.gradient_memory"));
}

TEST_F(SharedMemoryTest, WhatTheServerRefusesGoesByTheWire) {
  ServerOptions options = Options();
  options.shared_memory_session_bytes = 64 << 10;
  Start(options);
  const ScoreCase c = SoftmaxCase(1000, 64);
  SharedCase shared(client(), c);
  EXPECT_THAT(shared.memory.status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("session_bytes")));
  const Outcome outcome = client().Score(shared.request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kWire);
}

// Row losses beyond a message: everything travels, in chunks.
TEST_F(SharedMemoryTest, WhatCannotTravelInOneMessageTravelsInMany) {
  Start();
  ScoreCase c = SoftmaxCase(400'000, 2);
  c.item.want_row_loss = true;
  SharedCase shared(client(), c);
  const Outcome outcome = client().Score(shared.request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kWire);
  EXPECT_EQ(outcome->row_loss.size(), 1'600'000u);
}

// A side socket that is not the server's, or has forgotten: its sessions mean nothing to the server.
TEST_F(SharedMemoryTest, ASessionThatTheServerDoesNotKnowIsNoLoss) {
  Start();
  Metrics metrics({.version = "test", .backend = "cpu", .numerics_id = "test"});
  RegionTable strangers{RegionLimits()};
  const auto impostor = *MemorySocket::Listen(memory_socket(), &strangers, &metrics);
  const ScoreCase c = SoftmaxCase(1000, 10);
  SharedCase shared(client(), c);
  EXPECT_THAT(shared.memory.status(), IsOk());
  EXPECT_GT(strangers.regions(), 0);
  const Outcome outcome = client().Score(shared.request);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(outcome->transport, Transport::kWire);
  EXPECT_EQ(
      std::memcmp(outcome->gradient.data(), client().Score(WireRequest(c))->gradient.data(), 40000),
      0);
}

// A client that writes all over its tensors while they are scored gets garbage or an error for itself;
// the server lives, and others get what is theirs. Most of use under a sanitizer.
TEST_F(SharedMemoryTest, ScribblingHurtsTheScribblersAnswersOnly) {
  Start();
  const ScoreCase honest = SoftmaxCase(2000, 10, 9);
  const Client other = Connect(address());
  const Outcome want = other.Score(WireRequest(honest));
  ASSERT_THAT(want, IsOk());
  Random random(11);
  for (const Loss loss : {Loss::kSoftmaxCrossEntropy, Loss::kSigmoidCrossEntropy,
                          Loss::kKlDivergence, Loss::kBrier}) {
    for (const DType label : {DType::kF32, DType::kF16, DType::kU8, DType::kI32, DType::kI64}) {
      if (loss == Loss::kKlDivergence && IsInteger(label)) continue;
      for (const std::int64_t axis : {1, 2}) {
        ItemShape item;
        item.shape = {20, 10, 100};
        item.class_axis = static_cast<int>(axis);
        item.gradient = DType::kF32;
        item.label.dtype = label;
        item.label.kind = IsInteger(label) ? LabelKind::kClassId : LabelKind::kDense;
        if (label == DType::kU8 && loss == Loss::kSoftmaxCrossEntropy) {
          item.label.scale = LabelScale::kRowSum;
        }
        LossSpec spec;
        spec.loss = loss;
        const ScoreCase c = RandomCase(item, spec, {}, random);
        SharedCase shared(client(), c);
        SharedMemory gradient = *client().Allocate(c.prediction.size());
        shared.request.gradient = gradient.data();
        std::atomic<bool> stop{false};
        std::thread scribbler([&] {
          Random noise(5);
          const auto scribble = [&](std::span<std::byte> memory) {
            // Whole ids, of all sizes, as well as bits.
            const std::uint64_t value = noise.Bits() >> (noise.Bits() % 64);
            const std::size_t at = noise.Bits() % (memory.size() / 8) * 8;
            for (std::size_t i = at; i < std::min(at + 512, memory.size() - 8); i += 8) {
              std::memcpy(memory.data() + i, &value, 8);
            }
          };
          while (!stop) {
            scribble(shared.memory.span());
            scribble(gradient.span());
          }
        });
        for (int i = 0; i < 5; ++i) {
          const Outcome outcome = client().Score(shared.request);
          if (outcome.ok()) {
            EXPECT_EQ(outcome->transport, Transport::kSharedMemory);
          } else {
            EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument)
                << outcome.status();
          }
        }
        stop = true;
        scribbler.join();
      }
    }
    const Outcome still = other.Score(WireRequest(honest));
    ASSERT_THAT(still, IsOk());
    EXPECT_EQ(still->loss, want->loss);
  }
}

// A request that ran out of time is over when the server no longer refers to its memory.
TEST_F(SharedMemoryTest, MemoryIsHandedBackWithTheAnswerNotBefore) {
  Metrics metrics({.version = "test", .backend = "cpu", .numerics_id = "test"});
  RegionTable regions{RegionLimits()};
  const auto socket = *MemorySocket::Listen(memory_socket(), &regions, &metrics);
  std::promise<void> cancelled, answer;
  FakeScorer server(address(), {}, {[&](FakeStream& stream) {
                      v1::StreamResponse hello;
                      hello.mutable_hello()->set_credit_bytes(1 << 20);
                      hello.mutable_hello()->set_credit_items(8);
                      hello.mutable_hello()->set_shared_memory_socket(memory_socket());
                      stream.Write(hello);
                      v1::StreamRequest message;
                      while (stream.Read(&message) && !message.has_cancel()) {
                      }
                      cancelled.set_value();
                      answer.get_future().wait();
                      v1::StreamResponse error;
                      error.mutable_chunk()->set_id(message.cancel().id());
                      error.mutable_chunk()->mutable_error()->set_code(1);
                      stream.Write(error);
                      while (stream.Read(&message)) {
                      }
                      return grpc::Status::OK;
                    }});
  const ScoreCase c = SoftmaxCase(1000, 10);
  SharedCase shared(client(), c);
  ASSERT_THAT(shared.memory.status(), IsOk());
  shared.request.timeout = absl::Milliseconds(500);
  std::future<Outcome> future = client().Submit(shared.request);
  cancelled.get_future().wait();
  EXPECT_EQ(future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  answer.set_value();
  EXPECT_EQ(future.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  client_.reset();
}

// Any protobuf client works; also for one item in a unary call.
TEST_F(SharedMemoryTest, TheContractIsEnoughToUseIt) {
  Start();
  const auto stub =
      v1::Scorer::NewStub(grpc::CreateChannel(address(), grpc::InsecureChannelCredentials()));
  v1::GetCapabilitiesResponse capabilities;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetCapabilities(&context, {}, &capabilities).ok());
  }
  EXPECT_TRUE(capabilities.shared_memory());
  EXPECT_EQ(capabilities.shared_memory_socket(), memory_socket());

  const MemoryFile file(4096);
  const Mapping memory(file.fd(), 4096);
  const float x = 0, t = 1;
  std::memcpy(memory.data() + 100, &x, 4);
  std::memcpy(memory.data() + 200, &t, 4);
  MemoryPeer peer(capabilities.shared_memory_socket());
  const std::uint64_t region = peer.Register(file.fd(), 4096).region();

  v1::ScoreRequest request;
  v1::Item& item = *request.mutable_item();
  item.mutable_spec()->set_loss(v1::SIGMOID_CROSS_ENTROPY);
  item.mutable_prediction()->set_dtype(v1::FLOAT32);
  item.mutable_prediction()->add_shape(1);
  item.mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
  item.set_gradient_dtype(v1::FLOAT32);
  item.set_shared_memory_session(peer.session());
  std::uint64_t offset = 0;
  for (auto* at : {item.mutable_prediction_memory(), item.mutable_label_memory(),
                   item.mutable_gradient_memory()}) {
    at->set_region(region);
    at->set_offset(offset += 100);
    at->set_length(4);
  }
  const auto score = [&] {
    grpc::ClientContext context;
    v1::ScoreResponse response;
    const grpc::Status status = stub->Score(&context, request, &response);
    EXPECT_TRUE(response.gradient().empty());
    return std::pair(status.error_code(), response.result().loss());
  };
  const auto [code, loss] = score();
  EXPECT_EQ(code, grpc::StatusCode::OK);
  EXPECT_NEAR(loss, 0.69314718055994531, 7e-7);
  float gradient;
  std::memcpy(&gradient, memory.data() + 300, 4);
  EXPECT_NEAR(gradient, -0.5, 4e-7);

  MemoryPeer thief(capabilities.shared_memory_socket());
  item.set_shared_memory_session(thief.session());
  EXPECT_EQ(score().first, grpc::StatusCode::NOT_FOUND);
  item.set_shared_memory_session(peer.session());
  peer.Free(region);
  EXPECT_EQ(score().first, grpc::StatusCode::NOT_FOUND);
  peer.Close();
  EXPECT_EQ(score().first, grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace softloss
