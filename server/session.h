// The protocol of one ScoreStream: policy without threads, locks or gRPC. The caller serialises all
// calls, sends what lands in the outbox in that order, and scores the tasks it is handed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/wire/message.h"
#include "server/item.h"
#include "server/reply.h"

namespace softloss {

// More in one batch end the stream: they would keep its thread from other streams for long.
inline constexpr int kMaxBatchMessages = 4096;

class Session {
 public:
  // `sink` is given to every task; weak, because the stream owns the session.
  Session(const ServingContext* context, std::shared_ptr<Tenant> tenant,
          std::weak_ptr<ScoredSink> sink);

  // The first message: limits and credit; for clients on this host, also where memory is shared.
  void Hello(std::vector<Reply>* outbox, const std::string& shared_memory_socket = "");

  // Takes a message of `wire_bytes`; `received` keeps the bytes that `message.bulk` points to. Returns
  // the task that it makes, if any. A status is a framing error: it ends the stream.
  absl::StatusOr<std::unique_ptr<ChunkTask>> OnMessage(
      const wire::Parsed<v1::StreamRequest>& message, std::int64_t wire_bytes,
      std::shared_ptr<const void> received, std::vector<Reply>* outbox);

  // Takes back a task once its status is final.
  void OnScored(ChunkTask& task, std::vector<Reply>* outbox);

  // The client will send no more: items that miss rows fail, the others are finished.
  void OnHalfClose(std::vector<Reply>* outbox);

  // Refuses new items from now on with UNAVAILABLE; those in flight are finished.
  void Drain() { draining_ = true; }

  // Nobody is waiting for answers any more.
  void CancelAll();

  // Fails items whose chunks stopped coming.
  void OnTick(TimePoint now, std::vector<Reply>* outbox);

  // Whether another message may be read: the client is within its credit.
  bool MayRead() const;

  // No item is in flight.
  bool idle() const { return items_.empty() && tasks_ == 0; }

 private:
  struct Spec {
    absl::StatusOr<std::shared_ptr<const LossSpec>> spec;
    Charge charge;  // its weights' bytes, for as long as the stream lives
  };

  absl::Status OnDefine(const v1::Define& define, std::int64_t wire_bytes);
  absl::StatusOr<std::unique_ptr<ChunkTask>> OnChunk(const v1::Chunk& chunk, const wire::Bulk& bulk,
                                                     std::int64_t wire_bytes,
                                                     std::shared_ptr<const void> received,
                                                     std::vector<Reply>* outbox);
  absl::StatusOr<std::shared_ptr<ItemState>> Admit(const v1::Chunk& chunk, TimePoint now);
  absl::Status CheckOrder(const v1::Chunk& chunk, const ItemState& item) const;

  // Answers the chunks of a gathered item that was scored, all but the last; the task then is that one.
  void AnswerParts(ChunkTask& task, std::vector<Reply>* outbox);
  // Ends an item, with its error or result, and hands back its credit.
  void Answer(ItemState& item, const absl::Status& status, ChunkTask* task,
              std::vector<Reply>* outbox);
  void ReturnCredit(std::int64_t bytes, std::int64_t items, std::vector<Reply>* outbox);
  // Forgets an item once it is answered and nothing more of it can come.
  void Retire(const std::shared_ptr<ItemState>& item);

  const ServingContext* context_;
  std::shared_ptr<Tenant> tenant_;
  std::weak_ptr<ScoredSink> sink_;
  bool draining_ = false;
  std::int64_t tasks_ = 0;              // handed out, not yet back
  std::int64_t outstanding_bytes_ = 0;  // of messages whose chunks are not scored
  std::int64_t outstanding_items_ = 0;
  absl::flat_hash_map<std::uint32_t, Spec> specs_;
  // Ids in use: in flight, or answered while chunks of theirs may still come.
  absl::flat_hash_map<std::uint64_t, std::shared_ptr<ItemState>> items_;
};

}  // namespace softloss
