// A load generator: one ScoreStream of prebuilt messages, kept at a fixed number of items in flight.
//
// It knows the wire as bytes only, so that the server is all that differs between two measurements.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

namespace softloss {

// Items of softmax cross entropy, f32 logits and labels with f32 gradient, [rows, kClasses].
struct Workload {
  static constexpr std::int64_t kClasses = 64;
  static constexpr std::int64_t kMaxChunkBytes = 2 << 20;  // of tensors, a message

  std::int64_t item_bytes = 0;  // of prediction and label together
  int in_flight = 1;            // items
};

// How chunks travel: as softloss's clients send them, small ones that wait together; or each in a
// message of its own.
enum class Framing { kSingle, kBatches };

// Not thread-safe. Any failure of the stream ends the process with a message: a benchmark that lost
// replies has no result.
class StreamDriver {
 public:
  // Connects, opens the stream, waits for the server's first message and defines the loss.
  explicit StreamDriver(const std::string& address, Framing framing = Framing::kSingle);
  ~StreamDriver();

  // Seconds that `items` items took, from the first write to the last reply.
  double Run(const Workload& workload, std::int64_t items);

 private:
  enum Tag : std::intptr_t { kStarted = 1, kRead, kWritten, kFinished };

  // The next event; ends the process if it reports failure.
  Tag Next();
  void Read() { stream_->Read(&incoming_, Pointer(kRead)); }
  // How many chunks `incoming_` answers. Ends the process at an error.
  int TakeReplies(std::int64_t gradient_bytes);
  // Appends a chunk; as a message of a batch if that is how they travel.
  void AppendChunk(std::int64_t item_rows, std::int64_t row_begin, std::int64_t rows,
                   std::vector<grpc::Slice>* slices);

  static void* Pointer(Tag tag) { return reinterpret_cast<void*>(tag); }

  const Framing framing_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer incoming_;
  std::uint64_t next_id_ = 1;
  std::vector<float> logits_, labels_;  // of a whole chunk; every chunk sends their start
};

}  // namespace softloss
