// A Session with everything real behind it but gRPC: messages in, decoded replies out.
#pragma once

#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/backends.h"
#include "server/metrics.h"
#include "server/session.h"
#include "tests/testing/fake_clock.h"

namespace softloss {

// What a reply said, its bulk bytes as strings.
struct Answer {
  v1::StreamResponse header;  // without bulk bytes
  std::string gradient;
  std::string row_loss;
};

class SessionTest : public ::testing::Test, public ScoredSink {
 protected:
  struct Message {
    std::string bytes;
    std::vector<Fragment> fragments;
    wire::Parsed<v1::StreamRequest> parsed;
  };

  SessionTest()
      : backend_(MakeReferenceBackend()),
        budget_(ByteBudget::Options{.global_bytes = 1 << 20}),
        slabs_(SlabPool::Options{}),
        metrics_({.version = "test", .backend = "reference", .numerics_id = "test"}) {
    context_.backend = backend_.get();
    context_.budget = &budget_;
    context_.slabs = &slabs_;
    context_.metrics = &metrics_;
    context_.clock = &clock_;
    context_.version = "test";
    context_.max_message_bytes = 4 << 20;
    context_.max_chunk_bytes = 64 << 10;
    context_.stream_credit_bytes = 256 << 10;
    context_.stream_credit_items = 4;
    context_.item_stall_timeout = std::chrono::seconds(60);
    Restart();
  }

  void Restart() {
    sink_ = std::shared_ptr<ScoredSink>(this, [](ScoredSink*) {});
    session_ = std::make_unique<Session>(&context_, budget_.FindTenant("default"), sink_);
    Softmax(1);
  }

  // Defines spec `id` as softmax cross entropy, sum reduction.
  void Softmax(std::uint32_t id) {
    v1::StreamRequest request;
    request.mutable_define()->set_spec_id(id);
    request.mutable_define()->mutable_spec()->set_loss(v1::SOFTMAX_CROSS_ENTROPY);
    request.mutable_define()->mutable_spec()->set_reduction(v1::SUM);
    ASSERT_TRUE(Send(request).ok());
  }

  // From -20 to 7: losses from 2e-9 to 7, so that doubles cannot hold their sums exactly and the
  // order of summing shows.
  static float Logit(std::int64_t row) { return static_cast<float>(row * row % 911) * 0.03f - 20; }

  // A chunk of rows of two f32 classes: logits (Logit(row), 0), label (0, 1).
  v1::StreamRequest Chunk(std::uint64_t id, std::int64_t row_begin, std::int64_t rows,
                          std::int64_t total) {
    v1::StreamRequest request;
    v1::Chunk& chunk = *request.mutable_chunk();
    chunk.set_id(id);
    chunk.set_row_begin(row_begin);
    chunk.set_rows(rows);
    chunk.set_last(row_begin + rows == total);
    if (row_begin == 0) {
      v1::Item& item = *chunk.mutable_item();
      item.set_spec_id(1);
      item.mutable_prediction()->set_dtype(v1::FLOAT32);
      item.mutable_prediction()->add_shape(total);
      item.mutable_prediction()->add_shape(2);
      item.mutable_prediction()->set_class_axis(1);
      item.mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
      item.set_gradient_dtype(v1::FLOAT32);
    }
    for (std::int64_t r = row_begin; r < row_begin + rows; ++r) {
      const float x[2] = {Logit(r), 0};
      const float t[2] = {0, 1};
      request.mutable_prediction()->append(reinterpret_cast<const char*>(x), sizeof(x));
      request.mutable_label()->append(reinterpret_cast<const char*>(t), sizeof(t));
    }
    return request;
  }

  // The loss of class 1, log(1 + e^Logit), over rows.
  static double ExpectedSum(std::int64_t rows) {
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      sum += std::log1p(std::exp(static_cast<double>(Logit(r))));
    }
    return sum;
  }

  // Hands the message to the session; a task that comes of it waits in tasks_. Replies are appended
  // to answers_.
  absl::Status Send(const v1::StreamRequest& request) {
    return SendBytes(request.SerializeAsString());
  }

  absl::Status SendBytes(std::string bytes) {
    auto message = std::make_shared<Message>();
    message->bytes = std::move(bytes);
    message->fragments = {
        {reinterpret_cast<const std::byte*>(message->bytes.data()), message->bytes.size()}};
    if (absl::Status s = wire::Parse(message->fragments, &message->parsed); !s.ok()) return s;
    return Hand(message->parsed, static_cast<std::int64_t>(message->bytes.size()), message);
  }

  // The same of a message that was parsed elsewhere; `received` keeps its bytes.
  absl::Status Hand(const wire::Parsed<v1::StreamRequest>& message, std::int64_t wire_bytes,
                    std::shared_ptr<const void> received) {
    std::vector<Reply> outbox;
    absl::StatusOr<std::unique_ptr<ChunkTask>> task =
        session_->OnMessage(message, wire_bytes, std::move(received), &outbox);
    Collect(&outbox);
    if (!task.ok()) return task.status();
    if (*task != nullptr) tasks_.push_back(*std::move(task));
    return absl::OkStatus();
  }

  // Scores the waiting task at `index`, unless it was cancelled, and gives it back.
  void Score(std::size_t index = 0) {
    ASSERT_LT(index, tasks_.size());
    std::unique_ptr<ChunkTask> task = std::move(tasks_[index]);
    tasks_.erase(tasks_.begin() + index);
    if (task->cancelled) {
      task->status = absl::CancelledError("");
    } else {
      InlineExecutor executor;
      task->status = backend_->Score(task->key, absl::MakeSpan(&task->segment, 1), executor);
    }
    task->Done();
  }

  void OnScored(ChunkTask& task) override {
    std::vector<Reply> outbox;
    session_->OnScored(task, &outbox);
    Collect(&outbox);
  }

  void Collect(std::vector<Reply>* outbox) {
    for (Reply& reply : *outbox) {
      Answer answer;
      answer.gradient = Bytes(reply.gradient);
      answer.row_loss = Bytes(reply.row_loss);
      const std::string wire = reply.head + answer.gradient + reply.middle + answer.row_loss;
      ASSERT_TRUE(answer.header.ParseFromString(wire));
      ASSERT_EQ(answer.header.gradient(), answer.gradient);
      ASSERT_EQ(answer.header.row_loss(), answer.row_loss);
      answer.header.clear_gradient();
      answer.header.clear_row_loss();
      credit_bytes_ += answer.header.credit().bytes() + answer.header.chunk().returned().bytes();
      credit_items_ += answer.header.credit().items() + answer.header.chunk().returned().items();
      if (answer.header.has_credit()) continue;
      answers_.push_back(std::move(answer));
    }
    outbox->clear();
  }

  static std::string Bytes(const Slab& slab) {
    if (!slab) return "";
    return std::string(reinterpret_cast<const char*>(slab.data()), slab.size());
  }

  // The last reply, which must be an error of item `id`.
  v1::ItemError LastError(std::uint64_t id) {
    if (answers_.empty() || !answers_.back().header.chunk().has_error()) {
      ADD_FAILURE() << "no error came";
      return {};
    }
    EXPECT_EQ(answers_.back().header.chunk().id(), id);
    return answers_.back().header.chunk().error();
  }

  FakeClock clock_;
  std::unique_ptr<Backend> backend_;
  ByteBudget budget_;
  SlabPool slabs_;
  Metrics metrics_;
  ServingContext context_;
  std::shared_ptr<ScoredSink> sink_;
  std::unique_ptr<Session> session_;
  std::deque<std::unique_ptr<ChunkTask>> tasks_;
  std::vector<Answer> answers_;
  std::int64_t credit_bytes_ = 0;  // returned so far
  std::int64_t credit_items_ = 0;
};

}  // namespace softloss
