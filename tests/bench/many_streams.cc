#include "tests/bench/many_streams.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "proto/wire/message.h"
#include "tests/bench/drawn_rows.h"

namespace softloss {
namespace {

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "many streams: %s\n", why.c_str());
  std::exit(1);
}

std::size_t Size(v1::DType dtype) {
  switch (dtype) {
    case v1::FLOAT32: return 4;
    case v1::BFLOAT16: return 2;
    case v1::UINT8: return 1;
    default: Die("a dtype that is not drawn");
  }
}

// Cuts bf16 off rather than rounding; u8 are parts of 255.
std::vector<char> Encode(const std::vector<float>& values, v1::DType dtype) {
  std::vector<char> bytes(values.size() * Size(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = dtype == v1::UINT8 ? std::round(255 * values[i]) : values[i];
    char* const to = &bytes[i * Size(dtype)];
    if (dtype == v1::UINT8) {
      *to = static_cast<char>(v);
    } else {
      // Little-endian: the upper half of a float is the nearest bf16 below.
      std::memcpy(to, reinterpret_cast<const char*>(&v) + sizeof v - Size(dtype), Size(dtype));
    }
  }
  return bytes;
}

grpc::Slice Borrowed(std::vector<char>& bytes) {
  return grpc::Slice(bytes.data(), bytes.size(), [](void*) {});
}

}  // namespace

// A completion queue's tag: an operation of a stream.
struct ManyStreams::Tag {
  enum Kind { kStarted, kRead, kWritten, kFinished } kind;
  Stream* stream;
};

struct ManyStreams::Stream {
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
  grpc::ByteBuffer incoming;
  grpc::Status status;
  std::uint64_t next_id = 1;
  bool writing = false;
  std::int64_t to_send = 0;  // as soon as the write before is done
  Tag started{Tag::kStarted, this}, read{Tag::kRead, this}, written{Tag::kWritten, this},
      finished{Tag::kFinished, this};
};

ManyStreams::ManyStreams(const std::string& address, const ManyStreamsOptions& options)
    : options_(options),
      channel_([&] {
        grpc::ChannelArguments arguments;
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        return grpc::CreateCustomChannel(address, options.credentials, arguments);
      }()),
      stub_(channel_) {
  v1::StreamRequest define;
  define.mutable_define()->set_spec_id(1);
  define.mutable_define()->mutable_spec()->set_loss(v1::SOFTMAX_CROSS_ENTROPY);
  const grpc::Slice slice(define.SerializeAsString());
  const grpc::ByteBuffer message(&slice, 1);
  for (int i = 0; i < options.streams; ++i) {
    streams_.push_back(std::make_unique<Stream>());
    Stream& stream = *streams_.back();
    stream.call = stub_.PrepareCall(&stream.context, "/softloss.v1.Scorer/ScoreStream", &queue_);
    stream.call->StartCall(&stream.started);
    if (Next() != &stream.started) Die("no stream");
    stream.call->Read(&stream.incoming, &stream.read);
    if (Next() != &stream.read) Die("no greeting");
    stream.call->Write(message, &stream.written);
    if (Next() != &stream.written) Die("no definition");
  }
  for (const std::unique_ptr<Stream>& stream : streams_) {
    stream->call->Read(&stream->incoming, &stream->read);  // from now on one is always posted
  }
}

ManyStreams::~ManyStreams() {
  for (const std::unique_ptr<Stream>& stream : streams_) {
    stream->context.TryCancel();
    stream->call->Finish(&stream->status, &stream->finished);
  }
  queue_.Shutdown();
  void* tag;
  bool ok;
  while (queue_.Next(&tag, &ok)) {
  }
}

ManyStreams::Tag* ManyStreams::Next() {
  void* tag = nullptr;
  bool ok = false;
  if (!queue_.Next(&tag, &ok) || !ok) Die("a stream ended early");
  return static_cast<Tag*>(tag);
}

void ManyStreams::Send(Stream& stream) {
  if (stream.writing || stream.to_send == 0) return;
  v1::Chunk chunk;
  chunk.set_id(stream.next_id++);
  chunk.set_rows(rows_);
  chunk.set_last(true);
  v1::Item& item = *chunk.mutable_item();
  item.set_spec_id(1);
  item.mutable_prediction()->set_dtype(options_.prediction);
  item.mutable_prediction()->add_shape(rows_);
  item.mutable_prediction()->add_shape(Workload::kClasses);
  item.mutable_prediction()->set_class_axis(-1);
  item.mutable_label()->mutable_dense()->set_dtype(options_.label);
  if (options_.label == v1::UINT8) item.mutable_label()->mutable_dense()->set_scale(v1::ROW_SUM);
  item.set_gradient_dtype(options_.gradient);
  std::string head, between;
  wire::AppendHeader(chunk, &head);
  wire::AppendBulkTag(wire::kPrediction, prediction_.size(), &head);
  wire::AppendBulkTag(wire::kLabel, label_.size(), &between);
  const grpc::Slice slices[] = {grpc::Slice(head), Borrowed(prediction_), grpc::Slice(between),
                                Borrowed(label_)};
  stream.call->Write(grpc::ByteBuffer(slices, 4), &stream.written);
  stream.writing = true;
  --stream.to_send;
}

double ManyStreams::Run(std::int64_t rows, int in_flight, std::int64_t items) {
  if (rows != rows_) {
    const DrawnRows drawn = DrawRows(rows, Workload::kClasses);
    prediction_ = Encode(drawn.logits, options_.prediction);
    label_ = Encode(drawn.labels, options_.label);
    rows_ = rows;
    reply_bytes_ = static_cast<std::size_t>(rows * Workload::kClasses) * Size(options_.gradient);
  }
  std::int64_t sent = 0, answered = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto one_more = [&](Stream& stream) {
    if (sent == items) return;
    ++sent;
    ++stream.to_send;
    Send(stream);
  };
  for (int i = 0; i < in_flight; ++i) {
    one_more(*streams_[static_cast<std::size_t>(i) % streams_.size()]);
  }
  std::int64_t writing = 0;
  for (const std::unique_ptr<Stream>& stream : streams_) writing += stream->writing;
  while (answered < items || writing > 0) {
    Tag& tag = *Next();
    Stream& stream = *tag.stream;
    const bool was_writing = stream.writing;
    if (tag.kind == Tag::kWritten) {
      stream.writing = false;
      Send(stream);
    } else if (tag.kind == Tag::kRead) {
      if (stream.incoming.Length() >= reply_bytes_) {
        ++answered;
        one_more(stream);
      } else {
        grpc::Slice slice;
        v1::StreamResponse reply;
        if (!stream.incoming.DumpToSingleSlice(&slice).ok() ||
            !reply.ParseFromArray(slice.begin(), static_cast<int>(slice.size())) ||
            !reply.has_credit()) {
          Die("an item was not scored: " + reply.ShortDebugString());
        }
      }
      stream.call->Read(&stream.incoming, &stream.read);
    } else {
      Die("an unexpected event");
    }
    writing += stream.writing - was_writing;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace softloss
