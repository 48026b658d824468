#include "server/byte_buffer.h"

#include <array>

namespace softloss {
namespace {

grpc::Slice ToSlice(Slab* slab) {
  const std::size_t size = slab->size();
  return grpc::Slice(slab->Detach(), size, &SlabPool::Return);
}

}  // namespace

grpc::ByteBuffer ToByteBuffer(Reply* reply) {
  std::array<grpc::Slice, 4> slices;
  std::size_t n = 0;
  slices[n++] = grpc::Slice(reply->head);
  if (reply->gradient) slices[n++] = ToSlice(&reply->gradient);
  if (!reply->middle.empty()) slices[n++] = grpc::Slice(reply->middle);
  if (reply->row_loss) slices[n++] = ToSlice(&reply->row_loss);
  return grpc::ByteBuffer(slices.data(), n);
}

}  // namespace softloss
