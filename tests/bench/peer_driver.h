// A load generator for the servers in peers/: one stream, a fixed number of messages in flight.
#pragma once

#include <cstdint>
#include <string>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "tests/bench/stream_driver.h"

namespace softloss {

// Sends the tensors that StreamDriver sends, an item a message, in the peers' framing. Not
// thread-safe; any failure ends the process with a message.
class PeerDriver {
 public:
  explicit PeerDriver(const std::string& address);
  ~PeerDriver();

  // Seconds that `items` items took, from the first write to the last reply.
  double Run(const Workload& workload, std::int64_t items);

 private:
  enum Tag : std::intptr_t { kStarted = 1, kRead, kWritten, kFinished };
  Tag Next();
  static void* Pointer(Tag tag) { return reinterpret_cast<void*>(tag); }

  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer incoming_;
};

}  // namespace softloss
