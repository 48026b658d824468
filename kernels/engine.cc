#include "kernels/engine.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "layout/tile.h"

namespace softloss {
namespace {

constexpr std::int64_t kChunkBytes = 1 << 20;

std::int64_t ChunkRows(const ItemPlan& plan, std::int64_t wanted) {
  if (wanted > 0) {
    const std::int64_t leaves =
        std::min(wanted, plan.geometry.rows()) / plan.leaf_rows + (wanted % plan.leaf_rows != 0);
    return std::max<std::int64_t>(1, leaves) * plan.leaf_rows;
  }
  if (plan.regional()) return plan.geometry.rows();  // the backend shares it out
  const std::int64_t row_bytes = plan.request_row_bytes() + plan.reply_row_bytes();
  return std::max(plan.leaf_rows, MaxChunkRows(plan.geometry.classes, row_bytes, kChunkBytes));
}

absl::Status CheckPointer(const char* field, bool wanted, const void* pointer) {
  if (wanted == (pointer != nullptr)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be ", wanted ? "given" : "null",
                                                 " for this item; was ",
                                                 wanted ? "null" : "given"));
}

absl::Status CheckPointers(const ItemPlan& plan, const EngineInputs& in, const EngineOutputs& out) {
  for (const absl::Status& status :
       {CheckPointer("prediction", true, in.prediction), CheckPointer("label", true, in.label),
        CheckPointer("label_ids", plan.label_ids_row_bytes > 0, in.label_ids),
        CheckPointer("mask", plan.has_mask, in.mask),
        CheckPointer("row_weight", plan.has_row_weight, in.row_weight),
        CheckPointer("gradient", plan.key.gradient.has_value(), out.gradient),
        CheckPointer("row_loss", plan.want_row_loss, out.row_loss)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Where the pieces of a chunk lie in whole tensors. Owns what a Segment only points to.
struct Chunk {
  std::vector<Fragment> prediction, label, label_ids, mask, row_weight;
  std::vector<MutableFragment> gradient, row_loss;
};

class ChunkBuilder {
 public:
  ChunkBuilder(const ItemPlan& plan, const EngineInputs& in, const EngineOutputs& out)
      : plan_(plan), in_(in), out_(out) {}

  Chunk Build(std::int64_t row_begin, std::int64_t rows) const {
    const ScoreKey& key = plan_.key;
    Chunk chunk;
    AddElements(in_.prediction, SizeOf(key.prediction), row_begin, rows, &chunk.prediction);
    if (key.label.kind == LabelKind::kDense) {
      AddElements(in_.label, SizeOf(key.label.dtype), row_begin, rows, &chunk.label);
    } else {
      AddRows(in_.label, plan_.label_row_bytes, row_begin, rows, &chunk.label);
    }
    AddRows(in_.label_ids, plan_.label_ids_row_bytes, row_begin, rows, &chunk.label_ids);
    AddRows(in_.mask, plan_.mask_row_bytes, row_begin, rows, &chunk.mask);
    AddRows(in_.row_weight, plan_.weight_row_bytes, row_begin, rows, &chunk.row_weight);
    if (key.gradient.has_value()) {
      AddElements(out_.gradient, SizeOf(*key.gradient), row_begin, rows, &chunk.gradient);
    }
    if (plan_.want_row_loss) {
      if (IsElementwise(key.loss)) {
        AddElements(out_.row_loss, SizeOf(plan_.row_loss_dtype()), row_begin, rows,
                    &chunk.row_loss);
      } else if (plan_.regional()) {
        AddRows(out_.row_loss, plan_.image_loss_bytes, row_begin / plan_.leaf_rows,
                rows / plan_.leaf_rows, &chunk.row_loss);
      } else {
        AddRows(out_.row_loss, plan_.row_loss_row_bytes, row_begin, rows, &chunk.row_loss);
      }
    }
    return chunk;
  }

 private:
  static void Add(const void* data, std::int64_t offset, std::int64_t size,
                  std::vector<Fragment>* to) {
    to->push_back({static_cast<const std::byte*>(data) + offset, static_cast<std::size_t>(size)});
  }
  static void Add(void* data, std::int64_t offset, std::int64_t size,
                  std::vector<MutableFragment>* to) {
    to->push_back({static_cast<std::byte*>(data) + offset, static_cast<std::size_t>(size)});
  }

  template <typename Data, typename F>
  void AddElements(Data* data, std::size_t element_size, std::int64_t row_begin, std::int64_t rows,
                   std::vector<F>* to) const {
    const auto size = static_cast<std::int64_t>(element_size);
    ForEachPiece(plan_.geometry, row_begin, rows, [&](std::int64_t offset, std::int64_t elements) {
      Add(data, offset * size, elements * size, to);
    });
  }

  template <typename Data, typename F>
  static void AddRows(Data* data, std::int64_t row_bytes, std::int64_t row_begin, std::int64_t rows,
                      std::vector<F>* to) {
    if (row_bytes > 0) Add(data, row_begin * row_bytes, rows * row_bytes, to);
  }

  const ItemPlan& plan_;
  const EngineInputs& in_;
  const EngineOutputs& out_;
};

// Halves the batch while the device says that it is too large.
absl::Status ScoreBatch(Backend& backend, const ScoreKey& key, absl::Span<Segment> batch,
                        Executor& executor) {
  if (batch.empty()) return absl::OkStatus();
  absl::Status status = backend.Score(key, batch, executor);
  if (!absl::IsResourceExhausted(status) || batch.size() == 1) return status;
  const std::size_t half = batch.size() / 2;
  if (absl::Status s = ScoreBatch(backend, key, batch.subspan(0, half), executor); !s.ok()) {
    return s;
  }
  return ScoreBatch(backend, key, batch.subspan(half), executor);
}

}  // namespace

absl::StatusOr<ItemTotals> ScoreItem(Backend& backend, Executor& executor, const LossSpec& spec,
                                     const ItemShape& item, const EngineInputs& inputs,
                                     const EngineOutputs& outputs, std::int64_t chunk_rows) {
  if (absl::Status s = Validate(spec); !s.ok()) return s;
  absl::StatusOr<ItemPlan> plan = MakePlan(item, spec);
  if (!plan.ok()) return plan.status();
  if (absl::Status s = backend.Supports(plan->key); !s.ok()) return s;
  const std::int64_t rows = plan->geometry.rows();
  if (rows == 0) return Finish(spec, *plan, {}, Tally());
  if (absl::Status s = CheckPointers(*plan, inputs, outputs); !s.ok()) return s;

  const std::int64_t step = ChunkRows(*plan, chunk_rows);
  const auto chunk_count = static_cast<std::size_t>(CeilDiv(rows, step));
  std::vector<LeafSum> leaves(static_cast<std::size_t>(CeilDiv(rows, plan->leaf_rows)));
  std::vector<Chunk> chunks(chunk_count);
  std::vector<Segment> segments(chunk_count);
  const ChunkBuilder builder(*plan, inputs, outputs);
  for (std::size_t i = 0; i < chunk_count; ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * step;
    Segment& segment = segments[i];
    chunks[i] = builder.Build(begin, std::min(step, rows - begin));
    segment.spec = &spec;
    segment.rows = std::min(step, rows - begin);
    segment.first_row = begin;
    segment.prediction = chunks[i].prediction;
    segment.label = chunks[i].label;
    segment.label_ids = chunks[i].label_ids;
    segment.mask = chunks[i].mask;
    segment.row_weight = chunks[i].row_weight;
    segment.gradient = chunks[i].gradient;
    segment.row_loss = chunks[i].row_loss;
    segment.leaves = absl::MakeSpan(leaves).subspan(
        static_cast<std::size_t>(begin / plan->leaf_rows),
        static_cast<std::size_t>(CeilDiv(segment.rows, plan->leaf_rows)));
  }
  if (absl::Status s = ScoreBatch(backend, plan->key, absl::MakeSpan(segments), executor);
      !s.ok()) {
    return s;
  }
  Tally tally;
  for (const Segment& segment : segments) {
    if (!segment.status.ok()) return segment.status;
    tally += segment.tally;
  }
  return Finish(spec, *plan, leaves, tally);
}

}  // namespace softloss
