// gRPC's byte buffers on one side, fragments and slabs on the other; no payload byte is copied.
#pragma once

#include <cstdint>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/wire/message.h"
#include "server/reply.h"

namespace softloss {

// The slices that received messages point into.
struct ReceivedBytes {
  absl::InlinedVector<grpc::Slice, 4> slices;
  wire::FragmentVector fragments;  // a slice each, but for empty ones
  std::int64_t bytes = 0;

  // Takes over `buffer`. INTERNAL if gRPC cannot hand it out.
  absl::Status Take(grpc::ByteBuffer* buffer);

  // Appends the slices that `message` lies in. Messages are asked for in order.
  void KeepSlices(Fragments message, absl::InlinedVector<grpc::Slice, 2>* kept);

 private:
  std::size_t reached_ = 0;  // the slice in which the last message ended
};

// A message with the slices, of those received, that it lies in.
template <typename Message>
struct Received {
  absl::InlinedVector<grpc::Slice, 2> slices;
  std::int64_t bytes = 0;
  wire::Parsed<Message> parsed;

  // Parses `fragments` of `from`. INVALID_ARGUMENT if they are no such message.
  absl::Status Parse(ReceivedBytes* from, Fragments fragments);
};

template <typename Message>
absl::Status Received<Message>::Parse(ReceivedBytes* from, Fragments fragments) {
  bytes = static_cast<std::int64_t>(TotalSize(fragments));
  from->KeepSlices(fragments, &slices);
  return wire::Parse(fragments, &parsed);
}

// The bytes of a reply, or of several as a batch; their slabs go back to their pool when gRPC lets go
// of them.
grpc::ByteBuffer ToByteBuffer(absl::Span<Reply> replies);

inline grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace softloss
