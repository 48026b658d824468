#include "tests/bench/stream_driver.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "proto/wire/message.h"
#include "softloss/v1/scorer.pb.h"
#include "tests/bench/drawn_rows.h"

namespace softloss {
namespace {

constexpr char kMethod[] = "/softloss.v1.Scorer/ScoreStream";
constexpr std::int64_t kBatchBytes = 128 << 10;  // as in client/cpp/batch.h
constexpr std::int64_t kRowBytes = 2 * sizeof(float) * Workload::kClasses;

[[noreturn]] void Die(std::string_view why) {
  std::fprintf(stderr, "stream driver: %.*s\n", static_cast<int>(why.size()), why.data());
  std::exit(1);
}

grpc::Slice Borrowed(const std::vector<float>& values, std::int64_t bytes) {
  return grpc::Slice(const_cast<float*>(values.data()), static_cast<std::size_t>(bytes),
                     [](void*) {});
}

v1::Item MakeItem(std::int64_t rows) {
  v1::Item item;
  item.set_spec_id(1);
  item.mutable_prediction()->set_dtype(v1::FLOAT32);
  item.mutable_prediction()->add_shape(rows);
  item.mutable_prediction()->add_shape(Workload::kClasses);
  item.mutable_prediction()->set_class_axis(-1);
  item.mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
  item.set_gradient_dtype(v1::FLOAT32);
  return item;
}

}  // namespace

StreamDriver::StreamDriver(const std::string& address, Framing framing)
    : framing_(framing),
      channel_([&] {
        grpc::ChannelArguments arguments;
        // A connection of its own, even beside other drivers of the same server.
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
      }()),
      stub_(channel_) {
  const std::int64_t rows = Workload::kMaxChunkBytes / kRowBytes;
  DrawnRows drawn = DrawRows(rows, Workload::kClasses);
  logits_ = std::move(drawn.logits);
  labels_ = std::move(drawn.labels);

  stream_ = stub_.PrepareCall(&context_, kMethod, &queue_);
  stream_->StartCall(Pointer(kStarted));
  if (Next() != kStarted) Die("no stream");
  Read();
  if (Next() != kRead) Die("no greeting");

  v1::StreamRequest define;
  define.mutable_define()->set_spec_id(1);
  define.mutable_define()->mutable_spec()->set_loss(v1::SOFTMAX_CROSS_ENTROPY);
  std::string bytes;
  // A batch, though of one, says that replies may come in batches.
  if (framing_ == Framing::kBatches) wire::AppendBatchTag(define.ByteSizeLong(), &bytes);
  define.AppendToString(&bytes);
  const grpc::Slice slice(bytes);
  stream_->Write(grpc::ByteBuffer(&slice, 1), Pointer(kWritten));
  if (Next() != kWritten) Die("no definition");
  Read();  // from now on one read is always posted
}

StreamDriver::~StreamDriver() {
  context_.TryCancel();
  grpc::Status status;
  stream_->Finish(&status, Pointer(kFinished));
  queue_.Shutdown();
  void* tag;
  bool ok;
  while (queue_.Next(&tag, &ok)) {
  }
}

StreamDriver::Tag StreamDriver::Next() {
  void* tag = nullptr;
  bool ok = false;
  if (!queue_.Next(&tag, &ok)) Die("the queue ended");
  if (!ok) {
    grpc::Status status;
    context_.TryCancel();
    Die("the stream ended early");
  }
  return static_cast<Tag>(reinterpret_cast<std::intptr_t>(tag));
}

int StreamDriver::TakeReplies(std::int64_t gradient_bytes) {
  std::vector<grpc::Slice> slices;
  incoming_.Dump(&slices);
  wire::FragmentVector fragments;
  for (const grpc::Slice& slice : slices) {
    fragments.push_back({reinterpret_cast<const std::byte*>(slice.begin()), slice.size()});
  }
  int answered = 0;
  const auto take = [&](const wire::FragmentVector& message) {
    if (static_cast<std::int64_t>(TotalSize(Fragments(message))) >= gradient_bytes) {
      ++answered;
      return absl::OkStatus();
    }
    std::string bytes;
    for (const Fragment& f : message) bytes.append(reinterpret_cast<const char*>(f.data), f.size);
    v1::StreamResponse reply;
    if (!reply.ParseFromString(bytes)) Die("a reply that is no StreamResponse");
    if (reply.has_chunk()) Die("a chunk was not scored: " + reply.ShortDebugString());
    return absl::OkStatus();  // a credit message
  };
  if (!wire::IsBatch(fragments)) {
    (void)take(fragments);
  } else if (!wire::ForEachInBatch(fragments, take).ok()) {
    Die("a reply that is no batch");
  }
  return answered;
}

void StreamDriver::AppendChunk(std::int64_t item_rows, std::int64_t row_begin, std::int64_t rows,
                               std::vector<grpc::Slice>* slices) {
  v1::Chunk chunk;
  chunk.set_id(next_id_);
  if (row_begin == 0) *chunk.mutable_item() = MakeItem(item_rows);
  chunk.set_row_begin(row_begin);
  chunk.set_rows(rows);
  if (row_begin + rows == item_rows) {
    chunk.set_last(true);
    ++next_id_;
  }
  const std::int64_t tensor_bytes = rows * kRowBytes / 2;
  std::string head, between, tag;
  wire::AppendHeader(chunk, &head);
  wire::AppendBulkTag(wire::kPrediction, tensor_bytes, &head);
  wire::AppendBulkTag(wire::kLabel, tensor_bytes, &between);
  if (framing_ == Framing::kBatches) {
    wire::AppendBatchTag(head.size() + between.size() + 2 * tensor_bytes, &tag);
  }
  slices->emplace_back(tag + head);
  slices->push_back(Borrowed(logits_, tensor_bytes));
  slices->emplace_back(between);
  slices->push_back(Borrowed(labels_, tensor_bytes));
}

double StreamDriver::Run(const Workload& workload, std::int64_t items) {
  const std::int64_t item_rows = workload.item_bytes / kRowBytes;
  const std::int64_t chunk_rows = std::min(item_rows, Workload::kMaxChunkBytes / kRowBytes);
  const std::int64_t chunks_an_item = (item_rows + chunk_rows - 1) / chunk_rows;
  const std::int64_t chunks = items * chunks_an_item;
  const std::int64_t window = workload.in_flight * chunks_an_item;
  const std::int64_t gradient_bytes = chunk_rows * kRowBytes / 2;

  std::vector<grpc::Slice> slices;
  std::int64_t sent = 0, answered = 0;
  bool writing = false;
  const auto start = std::chrono::steady_clock::now();
  while (answered < chunks) {
    if (!writing && sent < chunks && sent - answered < window) {
      slices.clear();
      std::int64_t bytes = 0;
      do {
        const std::int64_t row_begin = sent % chunks_an_item * chunk_rows;
        AppendChunk(item_rows, row_begin, std::min(chunk_rows, item_rows - row_begin), &slices);
        bytes += chunk_rows * kRowBytes;
        ++sent;
      } while (framing_ == Framing::kBatches && sent < chunks && sent - answered < window &&
               bytes + chunk_rows * kRowBytes <= kBatchBytes);
      stream_->Write(grpc::ByteBuffer(slices.data(), slices.size()), Pointer(kWritten));
      writing = true;
    }
    switch (Next()) {
      case kWritten: writing = false; break;
      case kRead:
        answered += TakeReplies(gradient_bytes);
        Read();
        break;
      default: Die("an unexpected event");
    }
  }
  // The last write's event may still be due.
  while (writing) {
    if (Next() == kWritten) {
      writing = false;
    } else {
      TakeReplies(gradient_bytes);
      Read();
    }
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace softloss
