// gRPC's byte buffers on one side, fragments and slabs on the other; no payload byte is copied.
#pragma once

#include <cstdint>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "proto/wire/message.h"
#include "server/reply.h"

namespace softloss {

// A received message and the slices that it points into.
template <typename Message>
struct Received {
  std::vector<grpc::Slice> slices;
  wire::FragmentVector fragments;
  std::int64_t bytes = 0;
  wire::Parsed<Message> parsed;

  // Takes over `buffer` and parses it. INVALID_ARGUMENT if it is no such message.
  absl::Status Take(grpc::ByteBuffer* buffer);
};

template <typename Message>
absl::Status Received<Message>::Take(grpc::ByteBuffer* buffer) {
  bytes = static_cast<std::int64_t>(buffer->Length());
  if (grpc::Status s = buffer->Dump(&slices); !s.ok()) {
    return absl::InternalError(s.error_message());
  }
  buffer->Clear();
  for (const grpc::Slice& slice : slices) {
    if (slice.size() == 0) continue;
    fragments.push_back({reinterpret_cast<const std::byte*>(slice.begin()), slice.size()});
  }
  return wire::Parse(fragments, &parsed);
}

// The reply's bytes; its slabs go back to their pool when gRPC lets go of them.
grpc::ByteBuffer ToByteBuffer(Reply* reply);

inline grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace softloss
