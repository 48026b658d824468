#include "tests/testing/fake_scorer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "kernels/backends.h"
#include "kernels/plan.h"
#include "kernels/reduce.h"
#include "proto/wire/spec.h"
#include "tests/testing/bytes.h"

namespace softloss::testing {
namespace {

Fragment Whole(const std::string& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

// Points at a string to be written; its size is set first.
MutableFragment Sized(std::string* bytes, std::size_t size) {
  bytes->resize(size);
  return {reinterpret_cast<std::byte*>(bytes->data()), size};
}

template <typename F>
absl::Span<const F> Present(const F& fragment) {
  return fragment.size == 0 ? absl::Span<const F>() : absl::MakeConstSpan(&fragment, 1);
}

}  // namespace

struct FakeStream::Item {
  LossSpec spec;
  ItemPlan plan;
  std::int64_t rows_received = 0;
  std::int64_t rows_scored = 0;
  std::vector<LeafSum> leaves;
  Tally tally;
  bool refused = false;
};

void FakeRecord::Problem(std::string what) {
  std::lock_guard<std::mutex> lock(mutex_);
  problems_.push_back(std::move(what));
}

void FakeRecord::Item(const v1::Item& item) {
  std::lock_guard<std::mutex> lock(mutex_);
  items_.push_back(item);
}

void FakeRecord::Batch(int messages) {
  std::lock_guard<std::mutex> lock(mutex_);
  batches_.push_back(messages);
}

std::vector<int> FakeRecord::batches() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return batches_;
}

std::vector<std::string> FakeRecord::problems() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return problems_;
}

std::vector<v1::Item> FakeRecord::items() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return items_;
}

FakeStream::FakeStream(int index, FakeLimits limits, Backend* backend, FakeRecord* record,
                       Wire* wire)
    : index_(index), limits_(std::move(limits)), backend_(backend), record_(record), wire_(wire) {}

void FakeStream::Hello() {
  v1::StreamResponse message;
  v1::Hello* hello = message.mutable_hello();
  hello->set_credit_bytes(limits_.credit_bytes);
  hello->set_credit_items(limits_.credit_items);
  hello->set_max_message_bytes(4 << 20);
  hello->set_max_chunk_bytes(limits_.max_chunk_bytes);
  hello->set_numerics_id(limits_.numerics_id);
  hello->set_server_version("fake");
  hello->set_max_batch_messages(limits_.max_batch_messages);
  wire_->Write(message);
}

bool FakeStream::Next(v1::StreamRequest* message) {
  if (unread_.empty()) {
    if (!wire_->Read(message)) return false;
    if (message->batch_size() == 0) return true;
    if (message->batch_size() > static_cast<int>(limits_.max_batch_messages)) {
      record_->Problem(absl::StrCat("a batch of ", message->batch_size()));
    }
    record_->Batch(message->batch_size());
    batching_ = true;
    unread_.assign(message->batch().begin(), message->batch().end());
  }
  if (!message->ParseFromString(unread_.front()) || message->batch_size() > 0) {
    record_->Problem("a message of a batch that is none");
  }
  unread_.pop_front();
  return true;
}

bool FakeStream::Read(v1::StreamRequest* message) {
  while (Next(message)) {
    if (message->has_define()) {
      const v1::Define& define = message->define();
      specs_[define.spec_id()] = define.spec();
      continue;
    }
    if (message->has_chunk()) Check(*message);
    return true;
  }
  return false;
}

void FakeStream::Check(const v1::StreamRequest& message) {
  const v1::Chunk& chunk = message.chunk();
  const bool first = chunk.has_item();
  const auto problem = [&](const auto&... what) {
    record_->Problem(absl::StrCat("item ", chunk.id(), ", row ", chunk.row_begin(), ": ", what...));
  };
  if (first) {
    record_->Item(chunk.item());
    if (items_.contains(chunk.id())) problem("the id is in use");
    auto item = std::make_shared<Item>();
    const absl::StatusOr<LossSpec> spec = SpecFromProto(specs_[chunk.item().spec_id()]);
    const absl::StatusOr<ItemShape> shape = ItemFromProto(chunk.item());
    if (!spec.ok() || !shape.ok())
      return problem(spec.status().message(), shape.status().message());
    const absl::StatusOr<ItemPlan> plan = MakePlan(*shape, *spec);
    if (!plan.ok()) return problem(plan.status().message());
    item->spec = *spec;
    item->plan = *plan;
    item->leaves.resize(CeilDiv(plan->geometry.rows(), plan->leaf_rows));
    items_[chunk.id()] = item;
  }
  const auto it = items_.find(chunk.id());
  if (it == items_.end()) return problem("a chunk of an item that was not announced");
  Item& item = *it->second;
  if (chunk.row_begin() != item.rows_received) problem("expected row ", item.rows_received);
  item.rows_received += chunk.rows();
  const bool last = item.rows_received == item.plan.geometry.rows();
  if (chunk.last() != last) problem("last was ", chunk.last());
  const ChunkSizes sizes{message.prediction().size(), message.label().size(), message.mask().size(),
                         message.row_weight().size(), message.label_ids().size()};
  const absl::Status status = CheckChunk(item.plan, chunk.row_begin(), chunk.rows(), sizes);
  if (!status.ok()) problem(status.message());
  const auto tensors = static_cast<std::uint64_t>(
      chunk.rows() * std::max(item.plan.request_row_bytes(), item.plan.reply_row_bytes()));
  if (tensors > limits_.max_chunk_bytes) problem(tensors, " bytes of tensors");

  const auto size = static_cast<std::int64_t>(message.ByteSizeLong());
  const bool alone = outstanding_bytes_ == 0;
  outstanding_bytes_ += size;
  outstanding_items_ += first;
  if (outstanding_bytes_ > static_cast<std::int64_t>(limits_.credit_bytes) && !alone) {
    problem(outstanding_bytes_, " bytes are outstanding, over the credit");
  }
  if (outstanding_items_ > static_cast<std::int64_t>(limits_.credit_items)) {
    problem(outstanding_items_, " items are outstanding, over the credit");
  }
}

v1::StreamResponse FakeStream::Score(const v1::StreamRequest& message) {
  const v1::Chunk& chunk = message.chunk();
  Item& item = *items_.at(chunk.id());
  const ItemPlan& plan = item.plan;
  v1::StreamResponse reply;
  if (item.refused) {
    reply.mutable_credit()->set_bytes(message.ByteSizeLong());
    return reply;
  }
  const Fragment prediction = Whole(message.prediction());
  const Fragment label = Whole(message.label());
  const Fragment label_ids = Whole(message.label_ids());
  const Fragment mask = Whole(message.mask());
  const Fragment row_weight = Whole(message.row_weight());
  const MutableFragment gradient =
      Sized(reply.mutable_gradient(), chunk.rows() * plan.gradient_row_bytes);
  const MutableFragment row_loss =
      Sized(reply.mutable_row_loss(), chunk.rows() * plan.row_loss_row_bytes);
  if (chunk.rows() > 0) {
    Segment segment;
    segment.spec = &item.spec;
    segment.rows = chunk.rows();
    segment.prediction = Present(prediction);
    segment.label = Present(label);
    segment.label_ids = Present(label_ids);
    segment.mask = Present(mask);
    segment.row_weight = Present(row_weight);
    segment.gradient = Present(gradient);
    segment.row_loss = Present(row_loss);
    segment.leaves =
        absl::MakeSpan(item.leaves)
            .subspan(chunk.row_begin() / plan.leaf_rows, CeilDiv(chunk.rows(), plan.leaf_rows));
    InlineExecutor executor;
    const absl::Status status = backend_->Score(plan.key, absl::MakeSpan(&segment, 1), executor);
    if (!status.ok()) record_->Problem(status.ToString());
    if (!segment.status.ok()) {
      v1::ItemError error;
      error.set_code(static_cast<int>(segment.status.code()));
      error.set_message(std::string(segment.status.message()));
      error.set_field(FieldOf(segment.status));
      return Refuse(message, error);
    }
    item.tally += segment.tally;
  }
  item.rows_scored += chunk.rows();

  v1::ChunkResult* result = reply.mutable_chunk();
  result->set_id(chunk.id());
  result->set_row_begin(chunk.row_begin());
  result->set_rows(chunk.rows());
  result->mutable_returned()->set_bytes(message.ByteSizeLong());
  if (item.rows_scored < plan.geometry.rows()) return reply;

  result->mutable_returned()->set_items(1);
  const absl::StatusOr<ItemTotals> totals = Finish(item.spec, plan, item.leaves, item.tally);
  if (!totals.ok()) {
    v1::ItemError* error = result->mutable_error();
    error->set_code(static_cast<int>(totals.status().code()));
    error->set_message(std::string(totals.status().message()));
    return reply;
  }
  v1::ItemResult* r = result->mutable_result();
  r->set_loss(totals->loss);
  r->set_loss_sum(totals->loss_sum);
  r->set_denominator(totals->denominator);
  r->set_gradient_scale(totals->gradient_scale);
  r->set_gradient_l2_norm(totals->gradient_l2_norm);
  r->set_valid_count(item.tally.valid);
  v1::Conditions* c = r->mutable_conditions();
  c->set_nonfinite_predictions(item.tally.nonfinite_predictions);
  c->set_nonfinite_labels(item.tally.nonfinite_labels);
  c->set_nonfinite_losses(item.tally.nonfinite_losses);
  c->set_unnormalized_labels(item.tally.unnormalized_labels);
  c->set_out_of_range_labels(item.tally.out_of_range_labels);
  c->set_empty(totals->empty);
  r->mutable_times()->set_compute_ns(chunk.id());
  r->set_numerics_id(limits_.numerics_id);
  items_.erase(chunk.id());
  return reply;
}

v1::StreamResponse FakeStream::Refuse(const v1::StreamRequest& message,
                                      const v1::ItemError& error) {
  items_.at(message.chunk().id())->refused = true;
  v1::StreamResponse reply;
  v1::ChunkResult* result = reply.mutable_chunk();
  result->set_id(message.chunk().id());
  result->set_row_begin(message.chunk().row_begin());
  result->set_rows(message.chunk().rows());
  *result->mutable_error() = error;
  result->mutable_returned()->set_bytes(message.ByteSizeLong());
  result->mutable_returned()->set_items(1);
  return reply;
}

void FakeStream::Write(const v1::StreamResponse& reply) {
  const v1::Credit& credit = reply.has_credit() ? reply.credit() : reply.chunk().returned();
  outstanding_bytes_ -= credit.bytes();
  outstanding_items_ -= credit.items();
  if (batching_) {
    replies_.add_batch(reply.SerializeAsString());
    if (!unread_.empty()) return;
    wire_->Write(replies_);
    replies_.Clear();
  } else {
    wire_->Write(reply);
  }
}

grpc::Status Serve(FakeStream& stream) {
  stream.Hello();
  v1::StreamRequest message;
  while (stream.Read(&message)) {
    if (message.has_chunk()) stream.Write(stream.Score(message));
  }
  return grpc::Status::OK;
}

FakeScorer::FakeScorer(std::string address, FakeLimits limits, std::vector<Script> scripts)
    : address_(std::move(address)),
      limits_(std::move(limits)),
      scripts_(scripts.empty() ? std::vector<Script>{Serve} : std::move(scripts)),
      backend_(MakeReferenceBackend()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

FakeScorer::~FakeScorer() { Shutdown(); }

void FakeScorer::Shutdown() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

grpc::Status FakeScorer::ScoreStream(grpc::ServerContext*, FakeStream::Wire* wire) {
  const int index = streams_++;
  FakeStream stream(index, limits_, backend_.get(), &record_, wire);
  return scripts_[std::min<std::size_t>(index, scripts_.size() - 1)](stream);
}

grpc::Status FakeScorer::GetCapabilities(grpc::ServerContext*, const v1::GetCapabilitiesRequest*,
                                         v1::GetCapabilitiesResponse* response) {
  response->set_server_version("fake");
  response->set_backend("reference");
  response->set_numerics_id(limits_.numerics_id);
  response->add_losses(v1::SIGMOID_CROSS_ENTROPY);
  response->add_losses(static_cast<v1::Loss>(1000));  // newer than the client
  response->add_prediction_dtypes(v1::FLOAT32);
  response->add_label_dtypes(v1::UINT8);
  response->add_class_id_dtypes(v1::INT64);
  response->add_gradient_dtypes(v1::BFLOAT16);
  response->set_max_message_bytes(4 << 20);
  response->set_max_chunk_bytes(limits_.max_chunk_bytes);
  response->set_stream_credit_bytes(limits_.credit_bytes);
  response->set_stream_credit_items(limits_.credit_items);
  response->add_unimplemented_fields("spec.q");
  return grpc::Status::OK;
}

}  // namespace softloss::testing
