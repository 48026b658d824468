#include "server/server.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/health_check_service_interface.h>
#include <unistd.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/server_fixture.h"

namespace softloss {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double SigmoidCrossEntropy(double x, double t) {
  return (x >= 0 ? (1 - t) : t) * std::abs(x) + std::log1p(std::exp(-std::abs(x)));
}

TEST_F(ServerTest, AStreamScoresItemsAndEndsWhenHalfClosed) {
  grpc::ClientContext context;
  v1::Hello hello;
  auto stream = Open(&context, &hello);
  EXPECT_EQ(hello.max_chunk_bytes(), 2u << 20);
  EXPECT_EQ(hello.numerics_id(), server_->numerics_id());
  ASSERT_TRUE(stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY)));
  const std::vector<float> x = {20, -1, 0.5f};
  const std::vector<float> t = {1, 0.25f, 0.5f};
  ASSERT_TRUE(stream->Write(SigmoidChunk(4, x, t)));
  const v1::StreamResponse reply = Next(stream.get());
  EXPECT_EQ(reply.chunk().id(), 4u);
  double sum = 0;
  const std::vector<float> gradient = Floats(reply.gradient());
  ASSERT_EQ(gradient.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    sum += SigmoidCrossEntropy(x[i], t[i]);
    EXPECT_NEAR(gradient[i], Sigmoid(x[i]) - t[i], 4e-7);
  }
  EXPECT_NEAR(reply.chunk().result().loss(), sum / 3, 1e-6 * sum);
  EXPECT_EQ(reply.chunk().result().gradient_scale(), 1.0 / 3);
  stream->WritesDone();
  v1::StreamResponse end;
  EXPECT_FALSE(stream->Read(&end));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, AUnaryCallScoresOneItem) {
  v1::ScoreRequest request;
  request.mutable_item()->mutable_spec()->set_loss(v1::SIGMOID_CROSS_ENTROPY);
  FillSigmoid({20}, {1}, request.mutable_item(), request.mutable_prediction(),
              request.mutable_label());
  grpc::ClientContext context;
  v1::ScoreResponse response;
  const grpc::Status status = stub_->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_NEAR(response.result().loss(), 2.0611536e-9, 2.1e-15);
}

TEST_F(ServerTest, AUnaryCallsErrorNamesTheField) {
  v1::ScoreRequest request;
  request.mutable_item()->mutable_spec()->set_loss(v1::SIGMOID_CROSS_ENTROPY);
  FillSigmoid({1, 2}, {1}, request.mutable_item(), request.mutable_prediction(),
              request.mutable_label());
  grpc::ClientContext context;
  v1::ScoreResponse response;
  const grpc::Status status = stub_->Score(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("label"));
}

TEST_F(ServerTest, ABadItemIsToldAndTheStreamLivesOn) {
  grpc::ClientContext context;
  auto stream = Open(&context);
  ASSERT_TRUE(stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY)));
  v1::StreamRequest bad = SigmoidChunk(1, {1, 2}, {0, 1});
  bad.mutable_label()->pop_back();
  ASSERT_TRUE(stream->Write(bad));
  ASSERT_TRUE(stream->Write(SigmoidChunk(2, {0}, {0.5f})));
  EXPECT_EQ(Next(stream.get()).chunk().error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NEAR(Next(stream.get()).chunk().result().loss(), std::log(2.0), 7e-7);
}

TEST_F(ServerTest, FramingErrorsEndTheStreamWithAStatusThatSaysWhich) {
  {
    grpc::ClientContext context;
    auto stream = Open(&context);
    stream->Write(v1::StreamRequest());
    v1::StreamResponse response;
    EXPECT_FALSE(stream->Read(&response));
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("malformed"));
  }
  {
    grpc::ClientContext context;
    auto stream = Open(&context);
    stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
    v1::StreamRequest open = SigmoidChunk(8, std::vector<float>(256), std::vector<float>(256));
    open.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0, 1000);
    open.mutable_chunk()->set_last(false);
    stream->Write(open);
    stream->Write(open);
    v1::StreamResponse response;
    while (stream->Read(&response)) {
    }
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_THAT(status.error_message(), HasSubstr("chunk.id: 8"));
  }
  {
    grpc::ClientContext context;
    auto stream = Open(&context);
    v1::StreamRequest huge;
    huge.set_prediction(std::string(5 << 20, 'x'));
    stream->Write(huge);
    v1::StreamResponse response;
    EXPECT_FALSE(stream->Read(&response));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  // The server is none the worse.
  grpc::ClientContext context;
  auto stream = Open(&context);
  stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
  stream->Write(SigmoidChunk(1, {0}, {0.5f}));
  EXPECT_TRUE(Next(stream.get()).chunk().has_result());
}

TEST_F(ServerTest, CapabilitiesSayWhatIsThere) {
  grpc::ClientContext context;
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(stub_->GetCapabilities(&context, {}, &response).ok());
  EXPECT_EQ(response.backend(), "cpu");
  EXPECT_EQ(response.server_version(), SOFTLOSS_VERSION);
  EXPECT_THAT(response.losses(),
              ::testing::IsSupersetOf({v1::SIGMOID_CROSS_ENTROPY, v1::SOFTMAX_CROSS_ENTROPY,
                                       v1::KL_DIVERGENCE, v1::DISTILLATION, v1::BRIER}));
  EXPECT_THAT(response.prediction_dtypes(),
              ::testing::ElementsAre(v1::FLOAT32, v1::FLOAT16, v1::BFLOAT16, v1::FLOAT64));
  EXPECT_THAT(
      response.label_dtypes(),
      ::testing::ElementsAre(v1::FLOAT32, v1::FLOAT16, v1::BFLOAT16, v1::FLOAT64, v1::UINT8));
  EXPECT_THAT(response.class_id_dtypes(), ::testing::ElementsAre(v1::INT32, v1::INT64));
  EXPECT_FALSE(response.stored_labels());
  EXPECT_THAT(response.unimplemented_fields(), ::testing::Contains("item.label.stored"));
  EXPECT_THAT(response.tail_rules(), ::testing::ElementsAre(v1::TAIL_RENORMALIZE, v1::TAIL_UNIFORM,
                                                            v1::TAIL_BUCKET, v1::TAIL_ZERO));
}

TEST_F(ServerTest, HealthIsCheckedAndWatchedThroughADrain) {
  auto health = Health::NewStub(channel_);
  HealthCheckRequest request;
  HealthCheckResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(health->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  }
  {
    grpc::ClientContext context;
    request.set_service("softloss.v1.Scorer");
    ASSERT_TRUE(health->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  }
  {
    grpc::ClientContext context;
    HealthCheckRequest unknown;
    unknown.set_service("nobody");
    EXPECT_EQ(health->Check(&context, unknown, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
  grpc::ClientContext context;
  auto watch = health->Watch(&context, request);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  EXPECT_TRUE(server_->Shutdown());
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
}

TEST_F(ServerTest, ADrainFinishesWhatIsInFlight) {
  grpc::ClientContext context;
  auto stream = Open(&context);
  stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
  v1::StreamRequest first = SigmoidChunk(1, std::vector<float>(256), std::vector<float>(256));
  first.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0, 300);
  first.mutable_chunk()->set_last(false);
  stream->Write(first);
  EXPECT_FALSE(Next(stream.get()).chunk().has_result());  // scored so far

  bool finished = false;
  std::thread shutdown([&] { finished = server_->Shutdown(); });
  // Until the drain has begun, items are still taken.
  std::uint64_t id = 1;
  v1::StreamResponse refused;
  do {
    stream->Write(SigmoidChunk(++id, {0}, {0}));
    refused = Next(stream.get());
  } while (!refused.chunk().has_error());
  EXPECT_EQ(refused.chunk().error().code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(refused.chunk().error().retryable());

  v1::StreamRequest rest;
  rest.mutable_chunk()->set_id(1);
  rest.mutable_chunk()->set_row_begin(256);
  rest.mutable_chunk()->set_rows(44);
  rest.mutable_chunk()->set_last(true);
  rest.set_prediction(Bytes(std::vector<float>(44)));
  rest.set_label(Bytes(std::vector<float>(44)));
  stream->Write(rest);
  const v1::StreamResponse done = Next(stream.get());
  EXPECT_EQ(done.chunk().result().valid_count(), 300);
  EXPECT_NEAR(done.chunk().result().loss(), std::log(2.0), 7e-7);
  v1::StreamResponse end;
  EXPECT_FALSE(stream->Read(&end));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  shutdown.join();
  EXPECT_TRUE(finished);
}

TEST_F(ServerTest, ManyStreamsAreAnsweredWithTheSameBits) {
  std::vector<float> x(5000);
  std::vector<float> t(5000);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i)) * 9;
    t[i] = static_cast<float>(i % 11) / 10;
  }
  std::mutex mutex;
  std::set<double> sums;
  std::set<std::string> gradients;
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&] {
      grpc::ClientContext context;
      auto stream = Open(&context);
      stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
      for (std::uint64_t id = 0; id < 20; ++id) {
        stream->Write(SigmoidChunk(id, x, t));
        const v1::StreamResponse reply = Next(stream.get());
        std::lock_guard<std::mutex> lock(mutex);
        EXPECT_EQ(reply.chunk().id(), id);
        sums.insert(reply.chunk().result().loss_sum());
        gradients.insert(reply.gradient());
      }
      stream->WritesDone();
      EXPECT_TRUE(stream->Finish().ok());
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(sums.size(), 1u);
  EXPECT_EQ(gradients.size(), 1u);
}

TEST_F(ServerTest, AClientThatVanishesLeavesNothingBehind) {
  {
    grpc::ClientContext context;
    auto stream = Open(&context);
    stream->Write(Define(1, v1::SIGMOID_CROSS_ENTROPY));
    v1::StreamRequest open = SigmoidChunk(1, std::vector<float>(256), std::vector<float>(256));
    open.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0, 1000);
    open.mutable_chunk()->set_last(false);
    stream->Write(open);
    context.TryCancel();
    stream->Finish();
  }
  EXPECT_TRUE(server_->Shutdown());  // nothing was left to cancel
}

// gRPC's callback API keeps a pool of "nexting_thread"s, which take the connections over.
int CallbackPollers() {
  int pollers = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    std::string name;
    std::getline(comm, name);
    pollers += name.rfind("nexting", 0) == 0;
  }
  return pollers;
}

TEST_F(ServerTest, NoCallbackPollerRuns) {
  auto health = Health::NewStub(channel_);
  grpc::ClientContext context;
  HealthCheckResponse response;
  ASSERT_TRUE(health->Check(&context, {}, &response).ok());
  EXPECT_EQ(CallbackPollers(), 0);
  // And would be seen: gRPC's own health service starts them.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  const std::unique_ptr<grpc::Server> other = builder.BuildAndStart();
  grpc::EnableDefaultHealthCheckService(false);
  // A thread names itself when it first runs.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (CallbackPollers() == 0 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_GT(CallbackPollers(), 0);
  other->Shutdown();
}

class UnixServerTest : public ServerTest {
 protected:
  ServerOptions Options() const override {
    ServerOptions options = ServerTest::Options();
    options.listen = {"unix:" + path_, "127.0.0.1:0"};
    return options;
  }
  const std::string path_ =
      (std::filesystem::temp_directory_path() / ("softloss-test-" + std::to_string(getpid())))
          .string();
};

TEST_F(UnixServerTest, ListensOnAUnixSocketAndTcpAtOnce) {
  ASSERT_EQ(server_->addresses().size(), 2u);
  EXPECT_EQ(server_->addresses()[0], "unix:" + path_);
  EXPECT_THAT(server_->addresses()[1], ::testing::MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  for (const std::string& address : server_->addresses()) {
    auto stub =
        v1::Scorer::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::GetCapabilitiesResponse response;
    EXPECT_TRUE(stub->GetCapabilities(&context, {}, &response).ok()) << address;
  }
}

TEST(ServerStart, SaysWhichOptionCannotBeHonoured) {
  ServerOptions options;
  options.metrics_listen = "off";
  options.log_level = "error";
  options.listen = {"127.0.0.1:0"};
  options.backend = "abacus";
  const absl::Status bad_backend = Server::Start(options).status();
  EXPECT_THAT(std::string(bad_backend.message()), HasSubstr("backend"));
  options.backend = "cpu";
  options.listen = {"unix:/nonexistent/directory/socket"};
  const absl::Status bad_listen = Server::Start(options).status();
  EXPECT_THAT(std::string(bad_listen.message()), HasSubstr("--listen"));
  options.listen = {"127.0.0.1:0"};
  options.shared_memory_socket = "/nonexistent/directory/socket";
  EXPECT_THAT(std::string(Server::Start(options).status().message()),
              HasSubstr("--shared_memory_socket: cannot listen on /nonexistent/directory/socket"));
}

}  // namespace
}  // namespace softloss
