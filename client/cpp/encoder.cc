#include "client/cpp/encoder.h"

#include <utility>

namespace softloss::internal {
namespace {

// A piece is copied up to this size.
constexpr std::size_t kShort = 4096;

}  // namespace

void Encoder::Field(wire::BulkField field, std::size_t size) {
  if (size > 0) wire::AppendBulkTag(field, size, &tail_);
}

void Encoder::Append(const void* data, std::size_t size) {
  if (size <= kShort) {
    tail_.append(static_cast<const char*>(data), size);
    return;
  }
  FlushTail();
  borrowed_->fetch_add(1, std::memory_order_relaxed);
  slices_.emplace_back(
      const_cast<void*>(data), size,
      [](void* counter) {
        // Whoever sees the 0 may reuse the memory.
        static_cast<std::atomic<int>*>(counter)->fetch_sub(1, std::memory_order_release);
      },
      borrowed_);
  size_ += size;
}

Message Encoder::Finish() {
  FlushTail();
  return {std::move(slices_), size_};
}

void Encoder::FlushTail() {
  if (tail_.empty()) return;
  size_ += tail_.size();
  if (tail_.size() <= kShort) {
    slices_.emplace_back(tail_);  // a copy, and one allocation fewer
    tail_.clear();
    return;
  }
  auto* moved = new std::string(std::move(tail_));
  slices_.emplace_back(
      moved->data(), moved->size(), [](void* s) { delete static_cast<std::string*>(s); }, moved);
  tail_.clear();
}

}  // namespace softloss::internal
