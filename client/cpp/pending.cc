#include "client/cpp/pending.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "layout/geometry.h"
#include "layout/tile.h"
#include "proto/wire/spec.h"

namespace softloss::internal {
namespace {

using std::chrono::nanoseconds;

Clock::time_point DeadlineFrom(Clock::time_point now, absl::Duration timeout) {
  // Far enough to mean never, near enough not to overflow.
  if (timeout > absl::Hours(24 * 365)) return Clock::time_point::max();
  return now + nanoseconds(absl::ToInt64Nanoseconds(std::max(timeout, absl::ZeroDuration())));
}

absl::Duration FromNanos(std::uint64_t ns) {
  return absl::Nanoseconds(static_cast<std::int64_t>(ns));
}

std::string Serialize(const LossSpec& spec) {
  v1::LossSpec message;
  ToProto(spec, &message);
  return message.SerializeAsString();
}

// Walks over fragments, copying out.
class Reader {
 public:
  explicit Reader(const wire::FragmentVector& from) : from_(from) {}
  void Read(std::byte* to, std::size_t size) {
    while (size > 0) {
      const Fragment& f = from_[index_];
      const std::size_t n = std::min(size, f.size - offset_);
      std::memcpy(to, f.data + offset_, n);
      to += n;
      size -= n;
      offset_ += n;
      if (offset_ == f.size) {
        ++index_;
        offset_ = 0;
      }
    }
  }

 private:
  const wire::FragmentVector& from_;
  std::size_t index_ = 0;
  std::size_t offset_ = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Pending>> Pending::Make(ScoreRequest request, Clock::time_point now,
                                                       std::shared_ptr<MemoryShare> share) {
  if (absl::Status s = Validate(request.spec); !s.ok()) return s;
  absl::StatusOr<ItemPlan> plan = MakePlan(request.item, request.spec);
  if (!plan.ok()) return plan.status();

  std::shared_ptr<Pending> p(new Pending);
  p->plan_ = *std::move(plan);
  p->request_ = std::move(request);
  if (absl::Status s = p->CheckPointers(); !s.ok()) return s;
  p->spec_ = Serialize(p->request_.spec);
  ToProto(p->request_.item, &p->item_);
  p->item_.set_required_numerics_id(p->request_.required_numerics_id);
  p->item_.set_allow_numerics_change(p->request_.allow_numerics_change);
  p->submitted_ = now;
  p->deadline_ = DeadlineFrom(now, p->request_.timeout);
  p->share_ = std::move(share);
  p->FindPlaces();

  const std::int64_t rows = p->plan_.geometry.rows();
  const auto output = [&](std::int64_t bytes, void* given, Buffer* own) -> void* {
    if (bytes == 0 || given != nullptr) return given;
    if (own->empty()) *own = Buffer(bytes);
    return own->data();
  };
  p->gradient_ =
      output(rows * p->plan_.gradient_row_bytes, p->request_.gradient, &p->result_.gradient);
  p->row_loss_ = output(p->plan_.row_loss_bytes(rows), p->request_.row_loss, &p->result_.row_loss);
  p->load_ = rows * (p->plan_.request_row_bytes() + p->plan_.reply_row_bytes());
  return p;
}

absl::Status Pending::CheckPointers() const {
  if (plan_.geometry.rows() == 0) return absl::OkStatus();
  const auto check = [](const char* field, const void* data, bool expected) {
    if ((data != nullptr) == expected) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        field, expected ? ": must be given; was null" : ": must be null, as item says; was given"));
  };
  for (const absl::Status& s : {
           check("prediction", request_.prediction, true),
           check("label", request_.label, true),
           check("label_ids", request_.label_ids, plan_.label_ids_row_bytes > 0),
           check("mask", request_.mask, plan_.has_mask),
           check("row_weight", request_.row_weight, plan_.has_row_weight),
       }) {
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

void Pending::FindPlaces() {
  const std::int64_t rows = plan_.geometry.rows();
  if (share_ == nullptr || rows == 0) return;
  prediction_at_ = share_->Find(request_.prediction, rows * plan_.prediction_row_bytes);
  if (!prediction_at_) return;
  label_at_ = share_->Find(request_.label, rows * plan_.label_row_bytes);
  if (!label_at_) return;
  if (const std::int64_t size = rows * plan_.gradient_row_bytes; size > 0) {
    if (request_.gradient == nullptr) result_.gradient = share_->Lease(size);
    gradient_at_ = share_->Find(
        request_.gradient != nullptr ? request_.gradient : result_.gradient.data(), size);
    if (!gradient_at_) return;
  }
  shareable_ = true;
}

// What is not in regions must fit into one message and its reply, and lines of classes that are not
// last must be long enough to be read one by one.
bool Pending::Share() {
  constexpr std::int64_t kShortestLine = 16;
  const Geometry& g = plan_.geometry;
  const std::int64_t sent_row_bytes =
      plan_.label_ids_row_bytes + plan_.mask_row_bytes + plan_.weight_row_bytes;
  if (shareable_ && g.rows() * sent_row_bytes <= attempt_.max_chunk_bytes &&
      plan_.row_loss_bytes(g.rows()) <= attempt_.max_chunk_bytes &&
      (g.class_last() || g.inner >= kShortestLine) &&
      share_->Describe(prediction_at_, label_at_, gradient_at_, &item_)) {
    return true;
  }
  item_.clear_shared_memory_session();
  item_.clear_prediction_memory();
  item_.clear_label_memory();
  item_.clear_gradient_memory();
  return false;
}

absl::Status Pending::Begin(Attempt attempt, Clock::time_point now) {
  if (answered_rows_ > 0) answered_by_ = attempt_.numerics_id;
  attempt_ = std::move(attempt);
  ++attempts_;
  next_row_ = 0;
  sent_all_ = false;

  const std::int64_t rows = plan_.geometry.rows();
  const std::int64_t row_bytes = std::max(plan_.request_row_bytes(), plan_.reply_row_bytes());
  shared_ = Share();
  // A regional item's losses are in the reply to its last chunk.
  const std::int64_t room = std::max<std::int64_t>(
      0, attempt_.max_chunk_bytes - (plan_.regional() ? plan_.row_loss_bytes(rows) : 0));
  chunk_rows_ = MaxChunkRows(plan_.geometry.classes, row_bytes, room);
  if (shared_ || rows <= room / row_bytes) {
    chunk_rows_ = std::max<std::int64_t>(rows, 1);
  }
  if (chunk_rows_ == 0) {
    const std::int64_t least = std::min(rows, LeafRows(plan_.geometry.classes));
    return absl::InvalidArgumentError(absl::StrCat(
        "prediction.shape: at least ", least, " rows go in one message, which take ",
        least * row_bytes, " bytes; a message holds at most ", attempt_.max_chunk_bytes));
  }
  answered_.assign(std::max<std::int64_t>(1, CeilDiv(rows, chunk_rows_)), false);
  answered_rows_ = 0;

  item_.set_spec_id(attempt_.spec_id);
  if (item_.request_key().empty()) item_.set_request_key(attempt_.request_key);
  if (request_.required_numerics_id.empty()) item_.set_required_numerics_id(answered_by_);
  if (deadline_ != Clock::time_point::max()) {
    item_.set_timeout_ns(std::max<std::int64_t>(1, nanoseconds(deadline_ - now).count()));
  }
  return absl::OkStatus();
}

Message Pending::NextChunk() {
  const Geometry& g = plan_.geometry;
  const std::int64_t begin = next_row_;
  const std::int64_t rows = std::min(chunk_rows_, g.rows() - begin);
  v1::Chunk header;
  header.set_id(attempt_.id);
  if (begin == 0) *header.mutable_item() = item_;
  header.set_row_begin(begin);
  header.set_rows(rows);
  header.set_last(begin + rows == g.rows());

  Encoder encoder(&borrowed_);
  encoder.Header(header);
  const auto tile = [&](wire::BulkField field, const void* data, DType dtype) {
    const std::size_t element = SizeOf(dtype);
    encoder.Field(field, rows * g.classes * element);
    ForEachPiece(g, begin, rows, [&](std::int64_t offset, std::int64_t elements) {
      encoder.Append(static_cast<const std::byte*>(data) + offset * element, elements * element);
    });
  };
  const auto line = [&](wire::BulkField field, const void* data, std::int64_t row_bytes) {
    encoder.Field(field, rows * row_bytes);
    if (rows * row_bytes > 0) {
      encoder.Append(static_cast<const std::byte*>(data) + begin * row_bytes, rows * row_bytes);
    }
  };
  if (!shared_) tile(wire::kPrediction, request_.prediction, plan_.key.prediction);
  if (shared_) {
    // The label too is where the item says.
  } else if (plan_.key.label.kind == LabelKind::kDense) {
    tile(wire::kLabel, request_.label, plan_.key.label.dtype);
  } else {
    line(wire::kLabel, request_.label, plan_.label_row_bytes);
  }
  line(wire::kLabelIds, request_.label_ids, plan_.label_ids_row_bytes);
  line(wire::kMask, request_.mask, plan_.mask_row_bytes);
  line(wire::kRowWeight, request_.row_weight, plan_.weight_row_bytes);

  next_row_ = begin + rows;
  sent_all_ = header.last();
  return encoder.Finish();
}

absl::Status Pending::Store(const v1::ChunkResult& reply, const wire::Bulk& bulk) {
  const Geometry& g = plan_.geometry;
  const std::int64_t begin = reply.row_begin();
  const std::int64_t rows = reply.rows();
  if (begin < 0 || begin % chunk_rows_ != 0 || begin >= std::max<std::int64_t>(1, next_row_) ||
      rows != std::min(chunk_rows_, g.rows() - begin) || answered_[begin / chunk_rows_]) {
    return absl::InternalError(absl::StrCat("chunk: the server answered rows [", begin, ", ",
                                            begin + rows, "), which are not outstanding"));
  }
  const auto check = [&](const char* field, std::int64_t bytes, wire::BulkField f) {
    const std::size_t size = TotalSize(Fragments(bulk[f]));
    if (size == static_cast<std::size_t>(bytes)) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(field, ": must have ", bytes, " bytes for ", rows,
                                            " rows; the server sent ", size));
  };
  const std::int64_t gradient_row_bytes = shared_ ? 0 : plan_.gradient_row_bytes;
  const bool ends = begin + rows == g.rows();
  const std::int64_t losses = !plan_.regional() ? plan_.row_loss_bytes(rows)
                              : ends            ? plan_.row_loss_bytes(g.rows())
                                                : 0;
  for (const absl::Status& s : {check("gradient", rows * gradient_row_bytes, wire::kGradient),
                                check("row_loss", losses, wire::kRowLoss)}) {
    if (!s.ok()) return s;
  }
  answered_[begin / chunk_rows_] = true;
  answered_rows_ += rows;
  // Without a gradient and row losses, chunks but the last scored are answered with credit alone.
  const bool missing = plan_.reply_row_bytes() > 0 && answered_rows_ != g.rows();
  if (reply.has_result() && (missing || !sent_all_)) {
    return absl::InternalError(absl::StrCat("chunk.result: the server sent it after ",
                                            answered_rows_, " of ", g.rows(), " rows"));
  }

  if (gradient_row_bytes > 0) {
    StoreTile(bulk[wire::kGradient], SizeOf(*plan_.key.gradient), begin, rows, gradient_);
  }
  if (losses > 0) {
    if (plan_.regional()) {
      Reader(bulk[wire::kRowLoss]).Read(static_cast<std::byte*>(row_loss_), losses);
    } else if (IsElementwise(plan_.key.loss)) {
      StoreTile(bulk[wire::kRowLoss], SizeOf(plan_.row_loss_dtype()), begin, rows, row_loss_);
    } else {
      Reader(bulk[wire::kRowLoss])
          .Read(static_cast<std::byte*>(row_loss_) + begin * plan_.row_loss_row_bytes,
                rows * plan_.row_loss_row_bytes);
    }
  }
  return absl::OkStatus();
}

void Pending::StoreTile(const wire::FragmentVector& from, std::size_t element,
                        std::int64_t row_begin, std::int64_t rows, void* to) const {
  Reader reader(from);
  ForEachPiece(plan_.geometry, row_begin, rows, [&](std::int64_t offset, std::int64_t elements) {
    reader.Read(static_cast<std::byte*>(to) + offset * element, elements * element);
  });
}

ScoreResult Pending::TakeResult(const v1::ItemResult& m, Clock::time_point now) {
  ScoreResult r = std::move(result_);
  r.loss = m.loss();
  r.loss_sum = m.loss_sum();
  r.denominator = m.denominator();
  r.gradient_scale = m.gradient_scale();
  r.gradient_l2_norm = m.gradient_l2_norm();
  r.valid_count = m.valid_count();
  const v1::Conditions& c = m.conditions();
  r.conditions = {c.nonfinite_predictions(), c.nonfinite_labels(),    c.nonfinite_losses(),
                  c.unnormalized_labels(),   c.out_of_range_labels(), c.empty()};
  const v1::StageTimes& t = m.times();
  r.times = {FromNanos(t.decode_ns()),
             FromNanos(t.queue_ns()),
             FromNanos(t.host_to_device_ns()),
             FromNanos(t.compute_ns()),
             FromNanos(t.device_to_host_ns()),
             FromNanos(t.encode_ns()),
             absl::Nanoseconds(nanoseconds(now - submitted_).count())};
  r.numerics_id = m.numerics_id();
  r.numerics_changed = m.numerics_changed();
  r.label_version = m.label_version();
  r.attempts = attempts_;
  r.transport = shared_ ? Transport::kSharedMemory : Transport::kWire;
  return r;
}

}  // namespace softloss::internal
