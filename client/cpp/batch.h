// Gathers small messages that wait, so that one write takes them all.
#pragma once

#include <cstddef>
#include <vector>

#include "client/cpp/encoder.h"
#include "grpcpp/support/byte_buffer.h"

namespace softloss::internal {

// Not thread-safe.
class Batch {
 public:
  // Of the server's; 0: every message goes alone.
  void set_most_messages(std::size_t most) { most_messages_ = most; }

  bool empty() const { return messages_.empty(); }
  std::size_t messages() const { return messages_.size(); }

  // Whether a message of `size` bytes may join: the first always does.
  bool Fits(std::size_t size) const {
    return empty() || (size_ + size <= kBytes && messages_.size() < most_messages_);
  }
  void Add(Message message);

  // The bytes of all, and starts anew. A single message may go as it is.
  grpc::ByteBuffer Take(bool as_batch);

 private:
  // Of a batch; beyond it, moving the bytes costs several times what moving a message does.
  static constexpr std::size_t kBytes = 128 << 10;

  std::size_t most_messages_ = 0;
  std::vector<Message> messages_;
  std::size_t size_ = 0;
};

}  // namespace softloss::internal
