#include "server/byte_buffer.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

namespace softloss {
namespace {

grpc::Slice ToSlice(Slab* slab) {
  const std::size_t size = slab->size();
  return grpc::Slice(slab->Detach(), size, &SlabPool::Return);
}

bool Contains(const grpc::Slice& slice, const std::byte* data) {
  const auto* at = reinterpret_cast<const std::uint8_t*>(data);
  // Not the operators: the pointers may be of different arrays.
  return !std::less<>()(at, slice.begin()) && std::less<>()(at, slice.end());
}

constexpr std::size_t kShortSlice = 64;

grpc::Slice CopyOf(const grpc::Slice& slice) {
  void* copy = std::malloc(slice.size());
  std::memcpy(copy, slice.begin(), slice.size());
  return grpc::Slice(copy, slice.size(), &std::free);
}

}  // namespace

absl::Status ReceivedBytes::Take(grpc::ByteBuffer* buffer) {
  bytes = static_cast<std::int64_t>(buffer->Length());
  std::vector<grpc::Slice> dumped;
  if (grpc::Status s = buffer->Dump(&dumped); !s.ok()) {
    return absl::InternalError(s.error_message());
  }
  buffer->Clear();
  for (grpc::Slice& slice : dumped) {
    if (slice.size() == 0) continue;
    // gRPC keeps short ones inside the slice object: they would move with it.
    slices.push_back(slice.size() < kShortSlice ? CopyOf(slice) : std::move(slice));
    fragments.push_back(
        {reinterpret_cast<const std::byte*>(slices.back().begin()), slices.back().size()});
  }
  return absl::OkStatus();
}

void ReceivedBytes::KeepSlices(Fragments message, absl::InlinedVector<grpc::Slice, 2>* kept) {
  bool last_kept = false;
  for (const Fragment& f : message) {
    while (!Contains(slices[reached_], f.data)) {
      ++reached_;
      last_kept = false;
    }
    if (!last_kept) kept->push_back(slices[reached_]);
    last_kept = true;
  }
}

grpc::ByteBuffer ToByteBuffer(absl::Span<Reply> replies) {
  absl::InlinedVector<grpc::Slice, 16> slices;
  std::string before;
  for (Reply& reply : replies) {
    before.clear();
    if (replies.size() > 1) wire::AppendBatchTag(reply.size(), &before);
    // One slice fewer than with a slice of its own for the tag.
    before += reply.head;
    slices.emplace_back(before);
    if (reply.gradient) slices.push_back(ToSlice(&reply.gradient));
    if (!reply.middle.empty()) slices.emplace_back(reply.middle);
    if (reply.row_loss) slices.push_back(ToSlice(&reply.row_loss));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace softloss
