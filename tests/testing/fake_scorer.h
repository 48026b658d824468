// A server made of the ordinary generated API, one thread a stream, that does what a test tells it.
// It shares no transport code with the server or the client; its arithmetic is the reference's.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "grpcpp/server.h"
#include "kernels/backend.h"
#include "softloss/v1/scorer.grpc.pb.h"

namespace softloss::testing {

struct FakeLimits {
  std::uint64_t credit_bytes = 1 << 20;
  std::uint64_t credit_items = 64;
  std::uint64_t max_chunk_bytes = 1 << 20;
  std::string numerics_id = "fake/1";
  std::uint32_t max_batch_messages = 0;
};

// What came in, over all streams. Thread-safe.
class FakeRecord {
 public:
  void Problem(std::string what);
  void Item(const v1::Item& item);
  void Batch(int messages);
  std::vector<std::string> problems() const;
  std::vector<v1::Item> items() const;
  std::vector<int> batches() const;

 private:
  mutable std::mutex mutex_;
  std::vector<int> batches_;
  std::vector<std::string> problems_;
  std::vector<v1::Item> items_;
};

// One ScoreStream, as a script sees it. It checks the client's messages against the contract; what it
// finds wrong is in FakeScorer::problems().
class FakeStream {
 public:
  using Wire = grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>;
  FakeStream(int index, FakeLimits limits, Backend* backend, FakeRecord* record, Wire* wire);

  int index() const { return index_; }  // of the server's streams, from 0
  const FakeLimits& limits() const { return limits_; }

  void Hello();
  // The next message with a chunk or a cancel; definitions are taken in on the way. False when the
  // client has half-closed or the stream is broken. A batch comes message by message.
  bool Read(v1::StreamRequest* message);

  // Scores a chunk and returns its credit. With the result, if that completes the item; for a
  // refused item, the credit alone.
  v1::StreamResponse Score(const v1::StreamRequest& message);
  // Refuses a chunk's item and returns the chunk's credit.
  v1::StreamResponse Refuse(const v1::StreamRequest& message, const v1::ItemError& error);
  // With the others to the same batch: once its last message has been read.
  void Write(const v1::StreamResponse& reply);

 private:
  struct Item;
  bool Next(v1::StreamRequest* message);
  void Check(const v1::StreamRequest& message);

  const int index_;
  const FakeLimits limits_;
  Backend* const backend_;
  FakeRecord* const record_;
  Wire* const wire_;

  std::deque<std::string> unread_;  // of the batch
  v1::StreamResponse replies_;      // to the batch
  bool batching_ = false;
  std::map<std::uint32_t, v1::LossSpec> specs_;
  std::map<std::uint64_t, std::shared_ptr<Item>> items_;
  std::int64_t outstanding_bytes_ = 0;
  std::int64_t outstanding_items_ = 0;
};

class FakeScorer final : private v1::Scorer::Service {
 public:
  // What a stream does; its status ends it.
  using Script = std::function<grpc::Status(FakeStream&)>;

  // Listens on `address` ("unix:…"). The n-th stream follows the n-th script, further ones the last;
  // without scripts, all serve.
  explicit FakeScorer(std::string address, FakeLimits limits = {},
                      std::vector<Script> scripts = {});
  ~FakeScorer() override;

  const std::string& address() const { return address_; }
  int streams() const { return streams_; }  // opened so far
  // What the client did that the contract does not allow.
  std::vector<std::string> problems() const { return record_.problems(); }
  // The headers of all items that came, in order.
  std::vector<v1::Item> items() const { return record_.items(); }
  // How many messages were in each batch, in order.
  std::vector<int> batches() const { return record_.batches(); }
  // Breaks all streams and stops listening. Waits until the scripts have returned.
  void Shutdown();

 private:
  grpc::Status ScoreStream(grpc::ServerContext* context, FakeStream::Wire* wire) override;
  grpc::Status GetCapabilities(grpc::ServerContext* context,
                               const v1::GetCapabilitiesRequest* request,
                               v1::GetCapabilitiesResponse* response) override;

  const std::string address_;
  const FakeLimits limits_;
  const std::vector<Script> scripts_;
  const std::unique_ptr<Backend> backend_;
  std::atomic<int> streams_{0};
  FakeRecord record_;
  std::unique_ptr<grpc::Server> server_;
};

// The default script.
grpc::Status Serve(FakeStream& stream);

}  // namespace softloss::testing
