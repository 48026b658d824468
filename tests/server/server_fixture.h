// A whole server in this process, driven by the ordinary generated protobuf API: any client works.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "server/server.h"
#include "softloss/v1/scorer.grpc.pb.h"

namespace softloss {

class ServerTest : public ::testing::Test {
 protected:
  using Stream = grpc::ClientReaderWriter<v1::StreamRequest, v1::StreamResponse>;

  virtual ServerOptions Options() const {
    ServerOptions options;
    options.listen = {"127.0.0.1:0"};
    options.metrics_listen = "off";
    options.backend = "cpu";
    options.log_level = "error";
    return options;
  }

  void SetUp() override { Start(Options()); }

  void Start(const ServerOptions& options) {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->addresses()[0], grpc::InsecureChannelCredentials());
    stub_ = v1::Scorer::NewStub(channel_);
  }

  // Opens a stream and takes its Hello.
  std::unique_ptr<Stream> Open(grpc::ClientContext* context, v1::Hello* hello = nullptr) {
    std::unique_ptr<Stream> stream = stub_->ScoreStream(context);
    v1::StreamResponse first;
    EXPECT_TRUE(stream->Read(&first));
    EXPECT_TRUE(first.has_hello());
    if (hello != nullptr) *hello = first.hello();
    return stream;
  }

  static v1::StreamRequest Define(std::uint32_t id, v1::Loss loss) {
    v1::StreamRequest request;
    request.mutable_define()->set_spec_id(id);
    request.mutable_define()->mutable_spec()->set_loss(loss);
    return request;
  }

  // All of an item of sigmoid cross entropy: f32 logits and labels of any shape [n].
  static void FillSigmoid(const std::vector<float>& x, const std::vector<float>& t, v1::Item* item,
                          std::string* prediction, std::string* label) {
    item->mutable_prediction()->set_dtype(v1::FLOAT32);
    item->mutable_prediction()->add_shape(static_cast<std::int64_t>(x.size()));
    item->mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
    item->set_gradient_dtype(v1::FLOAT32);
    *prediction = Bytes(x);
    *label = Bytes(t);
  }

  static v1::StreamRequest SigmoidChunk(std::uint64_t id, const std::vector<float>& x,
                                        const std::vector<float>& t) {
    v1::StreamRequest request;
    v1::Chunk& chunk = *request.mutable_chunk();
    chunk.set_id(id);
    chunk.set_rows(static_cast<std::int64_t>(x.size()));
    chunk.set_last(true);
    chunk.mutable_item()->set_spec_id(1);
    FillSigmoid(x, t, chunk.mutable_item(), request.mutable_prediction(), request.mutable_label());
    return request;
  }

  // The next reply that is not mere credit; fails the test if the stream ended.
  static v1::StreamResponse Next(Stream* stream) {
    v1::StreamResponse response;
    do {
      if (!stream->Read(&response)) {
        ADD_FAILURE() << "the stream ended";
        return {};
      }
    } while (response.has_credit());
    return response;
  }

  static std::string Bytes(const std::vector<float>& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  }
  static std::vector<float> Floats(const std::string& bytes) {
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Scorer::Stub> stub_;
};

}  // namespace softloss
