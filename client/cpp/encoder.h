// Builds a canonical message out of a header and borrowed memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "google/protobuf/message_lite.h"
#include "grpcpp/support/slice.h"
#include "proto/wire/message.h"

namespace softloss::internal {

struct Message {
  std::vector<grpc::Slice> slices;
  std::size_t size = 0;  // of all of them
};

// Long pieces are referenced where they lie; short ones, which would cost more as slices of their own,
// are gathered.
class Encoder {
 public:
  // `*borrowed` counts the slices that still refer to borrowed memory. It falls on any thread, when
  // gRPC lets go of a slice, perhaps long after the write; it is not touched any more at 0.
  explicit Encoder(std::atomic<int>* borrowed) : borrowed_(borrowed) {}

  void Header(const google::protobuf::MessageLite& header) { wire::AppendHeader(header, &tail_); }
  // The field's bytes follow, in one or more Append()s. An empty field is left out.
  void Field(wire::BulkField field, std::size_t size);
  void Append(const void* data, std::size_t size);

  Message Finish();

 private:
  void FlushTail();

  std::atomic<int>* const borrowed_;
  std::string tail_;  // gathered, not yet a slice
  std::vector<grpc::Slice> slices_;
  std::size_t size_ = 0;
};

}  // namespace softloss::internal
