// A load generator like StreamDriver, for whole items in one message each: over several streams, with
// TLS, of any dtypes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "softloss/v1/scorer.pb.h"
#include "tests/bench/stream_driver.h"

namespace softloss {

struct ManyStreamsOptions {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  int streams = 1;  // of one connection
  v1::DType prediction = v1::FLOAT32;
  v1::DType label = v1::FLOAT32;
  v1::DType gradient = v1::FLOAT32;
};

// Items of softmax cross entropy, [rows, Workload::kClasses], f32, bf16 or (labels, a row's sum) u8. Not
// thread-safe. Any failure of a stream ends the process with a message.
class ManyStreams {
 public:
  // Connects, opens the streams, waits for their greetings and defines the loss.
  ManyStreams(const std::string& address, const ManyStreamsOptions& options);
  ~ManyStreams();

  // Seconds that `items` items of `rows` took, with `in_flight` under way, spread over the streams.
  double Run(std::int64_t rows, int in_flight, std::int64_t items);

 private:
  struct Stream;
  struct Tag;

  void Send(Stream& stream);
  Tag* Next();

  const ManyStreamsOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<char> prediction_, label_;  // of one item
  std::int64_t rows_ = 0;
  std::size_t reply_bytes_ = 0;  // at least
};

}  // namespace softloss
