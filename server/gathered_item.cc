#include "server/gathered_item.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/fragment_cursor.h"

namespace softloss {
namespace {

// Lists of pieces, where lines of classes are cut out of a chunk's tile.
std::int64_t PieceBytes(const ItemPlan& plan) {
  constexpr std::int64_t kTensors = 3;
  if (plan.geometry.class_last()) return 0;
  return kTensors * plan.geometry.classes *
         static_cast<std::int64_t>(sizeof(Fragment) + sizeof(std::int64_t));
}

}  // namespace

struct GatheredItem {
  struct Piece {
    std::int64_t row_begin = 0, rows = 0;
    const wire::Bulk* bulk = nullptr;  // kept by `received`
    std::shared_ptr<const void> received;
    Charge charge;  // what the message takes beside its tensors
  };
  std::vector<Piece> pieces;
  Charge charge;  // the item's tensors; once joined, those of the request

  // What the joined segment points to.
  std::vector<Fragment> prediction, label, mask, row_weight;
  std::vector<MutableFragment> gradient;

  // All rows' [rows, …], piece after piece.
  void JoinRows(wire::BulkField field, std::vector<Fragment>* to) const {
    for (const Piece& piece : pieces) {
      const wire::FragmentVector& part = (*piece.bulk)[field];
      to->insert(to->end(), part.begin(), part.end());
    }
  }

  // The [classes, rows] tile of all rows: of each class, every piece's line.
  void JoinTiles(wire::BulkField field, std::int64_t classes, std::size_t element,
                 std::vector<Fragment>* to) const {
    std::vector<FragmentCursor> cursors;
    for (const Piece& piece : pieces) cursors.emplace_back(Fragments((*piece.bulk)[field]));
    for (std::int64_t c = 0; c < classes; ++c) {
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        for (std::size_t left = static_cast<std::size_t>(pieces[i].rows) * element; left > 0;) {
          const std::size_t n = std::min(left, cursors[i].contiguous());
          to->push_back({cursors[i].TakeContiguous(n), n});
          left -= n;
        }
      }
    }
  }

  void JoinElements(wire::BulkField field, const Geometry& geometry, std::size_t element,
                    std::vector<Fragment>* to) const {
    geometry.class_last() ? JoinRows(field, to) : JoinTiles(field, geometry.classes, element, to);
  }
};

absl::Status GatherChunk(const ServingContext& context, const std::shared_ptr<Tenant>& tenant,
                         const std::shared_ptr<ItemState>& item, const wire::Bulk& bulk,
                         std::int64_t rows, std::int64_t max_tensor_bytes, std::int64_t wire_bytes,
                         std::shared_ptr<const void> received, TimePoint now) {
  const ItemPlan& plan = item->plan;
  absl::StatusOr<ChunkBytes> bytes = MeasureChunk(*item, bulk, rows, max_tensor_bytes);
  if (!bytes.ok()) return bytes.status();
  if (item->gathered == nullptr) {
    const std::int64_t all = plan.geometry.rows();
    absl::StatusOr<Charge> charge = ChargeItem(
        context, tenant,
        all * (plan.request_row_bytes() + plan.reply_row_bytes()) + plan.row_loss_bytes(all));
    if (!charge.ok()) return charge.status();
    item->gathered = std::make_shared<GatheredItem>();
    item->gathered->charge = *std::move(charge);
  }
  absl::StatusOr<Charge> charge =
      ChargeItem(context, tenant, wire_bytes - bytes->request + PieceBytes(plan));
  if (!charge.ok()) return charge.status();
  item->gathered->pieces.push_back(
      {item->rows_received, rows, &bulk, std::move(received), *std::move(charge)});
  item->rows_received += rows;
  item->last_chunk = now;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ChunkTask>> JoinChunks(const ServingContext& context,
                                                      const std::shared_ptr<Tenant>& tenant,
                                                      const std::shared_ptr<ItemState>& item,
                                                      TimePoint now) {
  const ItemPlan& plan = item->plan;
  const Geometry& geometry = plan.geometry;
  const std::shared_ptr<GatheredItem> gathered = std::move(item->gathered);
  auto task = std::make_unique<ChunkTask>();
  for (const GatheredItem::Piece& piece : gathered->pieces) {
    ChunkTask::Part part{
        .row_begin = piece.row_begin, .rows = piece.rows, .gradient = {}, .charge = {}};
    if (const std::int64_t size = piece.rows * plan.gradient_row_bytes; size > 0) {
      part.gradient = context.slabs->Allocate(static_cast<std::size_t>(size));
      if (!part.gradient) return OutOfMemory(size);
    }
    task->parts.push_back(std::move(part));
  }
  if (const std::int64_t size = plan.row_loss_bytes(geometry.rows()); size > 0) {
    task->row_loss = context.slabs->Allocate(static_cast<std::size_t>(size));
    if (!task->row_loss) return OutOfMemory(size);
    task->row_loss_fragment = {task->row_loss.data(), task->row_loss.size()};
    task->segment.row_loss = absl::MakeConstSpan(&task->row_loss_fragment, 1);
  }

  // Each reply holds the charge of what it carries; the row losses go with the last.
  for (ChunkTask::Part& part : task->parts) {
    const std::size_t losses = &part == &task->parts.back() ? task->row_loss.size() : 0;
    part.charge = gathered->charge.Split(static_cast<std::int64_t>(part.gradient.size() + losses));
  }

  gathered->JoinElements(wire::kPrediction, geometry, SizeOf(plan.key.prediction),
                         &gathered->prediction);
  if (plan.key.label.kind == LabelKind::kDense) {
    gathered->JoinElements(wire::kLabel, geometry, SizeOf(plan.key.label.dtype), &gathered->label);
  } else {
    gathered->JoinRows(wire::kLabel, &gathered->label);
  }
  gathered->JoinRows(wire::kMask, &gathered->mask);
  gathered->JoinRows(wire::kRowWeight, &gathered->row_weight);
  const std::int64_t lines = geometry.class_last() ? 1 : geometry.classes;
  for (std::int64_t line = 0; plan.key.gradient.has_value() && line < lines; ++line) {
    for (const ChunkTask::Part& part : task->parts) {
      const std::size_t size = part.gradient.size() / static_cast<std::size_t>(lines);
      gathered->gradient.push_back(
          {part.gradient.data() + static_cast<std::size_t>(line) * size, size});
    }
  }

  task->key = plan.key;
  task->bytes = geometry.rows() * (plan.request_row_bytes() + plan.reply_row_bytes());
  task->tenant = tenant.get();
  task->arrived = now;
  task->deadline = item->deadline;
  task->item = item;
  task->leaves.resize(static_cast<std::size_t>(geometry.rows() / plan.leaf_rows));
  Segment& segment = task->segment;
  segment.spec = item->spec.get();
  segment.rows = geometry.rows();
  segment.prediction = gathered->prediction;
  segment.label = gathered->label;
  segment.mask = gathered->mask;
  segment.row_weight = gathered->row_weight;
  segment.gradient = gathered->gradient;
  segment.leaves = absl::MakeSpan(task->leaves);
  task->received = gathered;
  item->tasks.push_back(task.get());
  return task;
}

}  // namespace softloss
