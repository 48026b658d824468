// A load generator for peers/triton_server.py: unary calls, a fixed number of them in flight.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "tests/bench/stream_driver.h"

namespace softloss {

// Sends the tensors that StreamDriver sends as ModelInferRequests of the KServe protocol, which Triton
// serves. Not thread-safe; any failure ends the process with a message.
class TritonDriver {
 public:
  explicit TritonDriver(const std::string& address);

  // Seconds that `items` items took, from the first call to the last reply.
  double Run(const Workload& workload, std::int64_t items);

 private:
  struct Call;

  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
};

}  // namespace softloss
