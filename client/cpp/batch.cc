#include "client/cpp/batch.h"

#include <string>
#include <utility>

#include "proto/wire/message.h"

namespace softloss::internal {

void Batch::Add(Message message) {
  size_ += message.size;
  messages_.push_back(std::move(message));
}

grpc::ByteBuffer Batch::Take(bool as_batch) {
  std::vector<grpc::Slice> slices;
  for (Message& message : messages_) {
    if (as_batch) {
      std::string tag;
      wire::AppendBatchTag(message.size, &tag);
      slices.emplace_back(tag);
    }
    for (grpc::Slice& slice : message.slices) slices.push_back(std::move(slice));
  }
  messages_.clear();
  size_ = 0;
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace softloss::internal
