#include "tests/testing/score_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "layout/tile.h"

namespace softloss::testing {
namespace {

const void* Pointer(const Bytes& bytes, bool wanted) {
  // An empty tensor has an address too.
  static const std::byte kNothing{};
  if (!wanted) return nullptr;
  return bytes.empty() ? &kNothing : bytes.data();
}

std::vector<double> RandomLabelRow(const ItemPlan& plan, LabelStyle style, Random& random) {
  const auto classes = static_cast<std::size_t>(plan.geometry.classes);
  std::vector<double> row(classes);
  switch (style) {
    case LabelStyle::kOneHot:
      row[static_cast<std::size_t>(random.Int(0, plan.geometry.classes))] = 1;
      return row;
    case LabelStyle::kWild:
      for (double& v : row) v = random.Normal();
      return row;
    case LabelStyle::kUniform:
      for (double& v : row) v = random.Uniform();
      return row;
    case LabelStyle::kNormalized: break;
  }
  if (IsElementwise(plan.key.loss)) {
    for (double& v : row) v = random.Chance(0.2) ? std::round(random.Uniform()) : random.Uniform();
    return row;
  }
  double sum = 0;
  for (double& v : row) sum += v = random.Chance(0.3) ? 0 : std::exp(2 * random.Normal());
  if (sum == 0) sum = row[0] = 1;
  for (double& v : row) v /= sum;
  return row;
}

// k classes, and what is left of a dense row for them. (u8 values are rounded and scaled.)
void AddSparseRow(const ItemPlan& plan, LabelStyle style, Random& random, std::vector<double>* ids,
                  std::vector<double>* values) {
  const std::vector<double> row = RandomLabelRow(plan, style, random);
  std::vector<std::size_t> classes(row.size());
  std::iota(classes.begin(), classes.end(), std::size_t{0});
  for (std::size_t i = 0; i < static_cast<std::size_t>(plan.key.label.k); ++i) {
    const auto j = static_cast<std::size_t>(
        random.Int(static_cast<std::int64_t>(i), static_cast<std::int64_t>(row.size())));
    std::swap(classes[i], classes[j]);
    ids->push_back(static_cast<double>(classes[i]));
    const double v = row[classes[i]];
    values->push_back(plan.key.label.dtype == DType::kU8 ? std::round(255 * std::clamp(v, 0.0, 1.0))
                                                         : v);
  }
}

// Chunk bytes ↔ tensor: the pieces of rows [begin, begin + rows) in chunk order.
template <typename Visit>
void VisitPieces(const Geometry& g, bool per_row, std::size_t element_size, std::int64_t begin,
                 std::int64_t rows, Visit visit) {
  if (per_row) {
    visit(static_cast<std::size_t>(begin) * element_size,
          static_cast<std::size_t>(rows) * element_size);
    return;
  }
  ForEachPiece(g, begin, rows, [&](std::int64_t offset, std::int64_t elements) {
    visit(static_cast<std::size_t>(offset) * element_size,
          static_cast<std::size_t>(elements) * element_size);
  });
}

Bytes TakeChunk(const Bytes& tensor, const Geometry& g, bool per_row, std::size_t element_size,
                std::int64_t begin, std::int64_t rows) {
  Bytes chunk;
  VisitPieces(g, per_row, element_size, begin, rows, [&](std::size_t offset, std::size_t size) {
    chunk.insert(chunk.end(), tensor.begin() + static_cast<std::ptrdiff_t>(offset),
                 tensor.begin() + static_cast<std::ptrdiff_t>(offset + size));
  });
  return chunk;
}

void PutChunk(const Bytes& chunk, const Geometry& g, bool per_row, std::size_t element_size,
              std::int64_t begin, std::int64_t rows, Bytes* tensor) {
  std::size_t from = 0;
  VisitPieces(g, per_row, element_size, begin, rows, [&](std::size_t offset, std::size_t size) {
    std::memcpy(tensor->data() + offset, chunk.data() + from, size);
    from += size;
  });
}

struct ChunkMemory {
  std::size_t case_index;
  std::int64_t begin;
  PoisonedBuffer prediction, label, label_ids, mask, row_weight, gradient, row_loss;
};

}  // namespace

std::string ScoreCase::Describe() const {
  return absl::StrCat(
      std::string(Name(spec.loss)), " [", absl::StrJoin(item.shape, ","), "] axis ",
      item.class_axis.value_or(-99), " ", std::string(Name(item.prediction)), " label ",
      std::string(Name(item.label.dtype)),
      item.label.kind != LabelKind::kSparse
          ? ""
          : absl::StrCat(" sparse k ", item.label.k, " tail ", static_cast<int>(item.label.tail)),
      item.label.scale == LabelScale::kRowSum ? " ROW_SUM" : "", " gradient ",
      item.gradient ? std::string(Name(*item.gradient)) : "none", item.has_mask ? " mask" : "",
      item.has_row_weight ? " weights" : "", " smoothing ", spec.label_smoothing,
      spec.class_weight.empty() ? "" : " class_weight",
      spec.pos_weight.empty() ? "" : " pos_weight", " check ", static_cast<int>(spec.label_check));
}

EngineInputs ScoreCase::inputs() const {
  EngineInputs in;
  in.prediction = Pointer(prediction, true);
  in.label = Pointer(label, true);
  in.mask = Pointer(mask, item.has_mask);
  in.row_weight = Pointer(row_weight, item.has_row_weight);
  in.label_ids = Pointer(label_ids, item.label.kind == LabelKind::kSparse);
  return in;
}

std::vector<double> ToTensorOrder(const Geometry& g, absl::Span<const double> rows) {
  std::vector<double> tensor(rows.size());
  for (std::int64_t r = 0; r < g.rows(); ++r) {
    for (std::int64_t c = 0; c < g.classes; ++c) {
      const std::int64_t to = (r / g.inner * g.classes + c) * g.inner + r % g.inner;
      tensor[static_cast<std::size_t>(to)] = rows[static_cast<std::size_t>(r * g.classes + c)];
    }
  }
  return tensor;
}

std::vector<double> ToRowOrder(const Geometry& g, absl::Span<const double> tensor) {
  std::vector<double> rows(tensor.size());
  for (std::int64_t r = 0; r < g.rows(); ++r) {
    for (std::int64_t c = 0; c < g.classes; ++c) {
      const std::int64_t from = (r / g.inner * g.classes + c) * g.inner + r % g.inner;
      rows[static_cast<std::size_t>(r * g.classes + c)] = tensor[static_cast<std::size_t>(from)];
    }
  }
  return rows;
}

ScoreCase CaseOf(const ItemShape& item, const LossSpec& spec, absl::Span<const double> logits,
                 absl::Span<const double> labels, absl::Span<const double> mask,
                 absl::Span<const double> row_weight, absl::Span<const double> label_ids) {
  ScoreCase c;
  c.item = item;
  c.spec = spec;
  c.item.has_mask = !mask.empty();
  c.item.has_row_weight = !row_weight.empty();
  EXPECT_TRUE(Validate(spec).ok()) << Validate(spec);
  absl::StatusOr<ItemPlan> plan = MakePlan(c.item, spec);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return c;
  c.plan = *plan;
  c.prediction = Encode(item.prediction, ToTensorOrder(plan->geometry, logits));
  c.label = item.label.kind == LabelKind::kDense
                ? Encode(item.label.dtype, ToTensorOrder(plan->geometry, labels))
                : Encode(item.label.dtype, labels);
  c.label_ids = Encode(item.label.id_dtype, label_ids);
  c.mask = Encode(DType::kU8, mask);
  c.row_weight = Encode(DType::kF32, row_weight);
  return c;
}

ScoreCase RandomCase(const ItemShape& item, const LossSpec& spec, const RandomStyle& style,
                     Random& random) {
  absl::StatusOr<ItemPlan> plan = MakePlan(item, spec);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return {};
  const Geometry& g = plan->geometry;
  std::vector<double> logits(static_cast<std::size_t>(g.elements()));
  for (double& v : logits) v = style.logit_deviation * random.Normal();
  if (spec.prediction_kind == PredictionKind::kProbabilities) {
    for (double& v : logits) v = 1 / (1 + std::exp(-v));  // 0 and 1 too, once rounded
  }
  std::vector<double> labels, ids, mask, row_weight;
  for (std::int64_t r = 0; r < g.rows(); ++r) {
    if (item.label.kind == LabelKind::kClassId) {
      labels.push_back(static_cast<double>(random.Int(0, g.classes)));
    } else if (item.label.kind == LabelKind::kSparse) {
      AddSparseRow(*plan, style.labels, random, &ids, &labels);
    } else {
      for (double v : RandomLabelRow(*plan, style.labels, random)) {
        labels.push_back(item.label.dtype == DType::kU8 ? std::round(255 * std::clamp(v, 0.0, 1.0))
                                                        : v);
      }
    }
    if (item.has_mask) mask.push_back(random.Chance(style.mask_out) ? 0 : random.Int(1, 256));
    if (item.has_row_weight) {
      row_weight.push_back(random.Chance(style.zero_weight) ? 0 : 3 * random.Uniform());
    }
  }
  return CaseOf(item, spec, logits, labels, mask, row_weight, ids);
}

std::string ScoreOutcome::BitDifference(const ScoreOutcome& other) const {
  if (status != other.status)
    return absl::StrCat(status.ToString(), " / ", other.status.ToString());
  if (gradient != other.gradient) return "gradients differ";
  if (row_loss != other.row_loss) return "row losses differ";
  if (tally != other.tally) return "tallies differ";
  if (leaves.size() != other.leaves.size()) return "numbers of leaves differ";
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (std::memcmp(&leaves[i], &other.leaves[i], sizeof(LeafSum)) != 0) {
      return absl::StrCat("sums of leaf ", i, " differ: loss ", leaves[i].loss, " / ",
                          other.leaves[i].loss);
    }
  }
  return "";
}

std::vector<ScoreOutcome> ScoreBatch(Backend& backend, Executor& executor,
                                     absl::Span<const ScoreCase* const> cases,
                                     const ScoreLayout& layout) {
  std::vector<ScoreOutcome> outcomes(cases.size());
  std::deque<ChunkMemory> memory;
  std::vector<Segment> segments;
  Pieces pieces = layout.pieces;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const ScoreCase& c = *cases[i];
    const ItemPlan& plan = c.plan;
    const Geometry& g = plan.geometry;
    EXPECT_EQ(plan.key, cases[0]->plan.key);
    outcomes[i].gradient.resize(static_cast<std::size_t>(plan.gradient_row_bytes * g.rows()));
    outcomes[i].row_loss.resize(static_cast<std::size_t>(plan.row_loss_bytes(g.rows())));
    outcomes[i].leaves.resize(static_cast<std::size_t>(CeilDiv(g.rows(), plan.leaf_rows)),
                              LeafSum{-1, -1, -1});
    const bool by_rows = plan.key.label.kind != LabelKind::kDense;
    const auto label_size =
        by_rows ? static_cast<std::size_t>(plan.label_row_bytes) : SizeOf(plan.key.label.dtype);
    const std::int64_t step =
        layout.chunk_leaves > 0 ? layout.chunk_leaves * plan.leaf_rows : g.rows();
    for (std::int64_t begin = 0; begin < g.rows(); begin += step) {
      const std::int64_t rows = std::min(step, g.rows() - begin);
      const auto take = [&](const Bytes& tensor, bool per_row, std::size_t size) {
        ++pieces.seed;
        if (tensor.empty()) return PoisonedBuffer(std::size_t{0}, pieces);
        return PoisonedBuffer(TakeChunk(tensor, g, per_row, size, begin, rows), pieces);
      };
      const auto make = [&](std::int64_t bytes) {
        ++pieces.seed;
        return PoisonedBuffer(static_cast<std::size_t>(bytes), pieces);
      };
      memory.push_back({i, begin, take(c.prediction, false, SizeOf(plan.key.prediction)),
                        take(c.label, by_rows, label_size),
                        take(c.label_ids, true, static_cast<std::size_t>(plan.label_ids_row_bytes)),
                        take(c.mask, true, 1), take(c.row_weight, true, 4),
                        make(rows * plan.gradient_row_bytes), make(plan.row_loss_bytes(rows))});
      ChunkMemory& m = memory.back();
      Segment segment;
      segment.spec = &c.spec;
      segment.rows = rows;
      segment.first_row = begin;
      segment.prediction = m.prediction.fragments();
      segment.label = m.label.fragments();
      segment.label_ids = m.label_ids.fragments();
      segment.mask = m.mask.fragments();
      segment.row_weight = m.row_weight.fragments();
      segment.gradient = m.gradient.mutable_fragments();
      segment.row_loss = m.row_loss.mutable_fragments();
      segment.leaves = absl::MakeSpan(outcomes[i].leaves)
                           .subspan(static_cast<std::size_t>(begin / plan.leaf_rows),
                                    static_cast<std::size_t>(CeilDiv(rows, plan.leaf_rows)));
      segments.push_back(segment);
    }
  }
  const absl::Status status = backend.Score(cases[0]->plan.key, absl::MakeSpan(segments), executor);
  EXPECT_TRUE(status.ok()) << status;
  for (std::size_t s = 0; s < segments.size(); ++s) {
    ChunkMemory& m = memory[s];
    const ItemPlan& plan = cases[m.case_index]->plan;
    const Geometry& g = plan.geometry;
    ScoreOutcome& out = outcomes[m.case_index];
    EXPECT_TRUE(m.gradient.PoisonIsIntact()) << "bytes around the gradient were written";
    EXPECT_TRUE(m.row_loss.PoisonIsIntact()) << "bytes around the row losses were written";
    out.status.Update(segments[s].status);
    out.tally += segments[s].tally;
    if (plan.key.gradient.has_value()) {
      PutChunk(m.gradient.Gathered(), g, false, SizeOf(*plan.key.gradient), m.begin,
               segments[s].rows, &out.gradient);
    }
    if (plan.regional()) {
      const Bytes losses = m.row_loss.Gathered();
      std::copy(losses.begin(), losses.end(),
                out.row_loss.begin() + static_cast<std::ptrdiff_t>(plan.row_loss_bytes(m.begin)));
    } else if (plan.want_row_loss) {
      PutChunk(m.row_loss.Gathered(), g, !IsElementwise(plan.key.loss),
               SizeOf(plan.row_loss_dtype()), m.begin, segments[s].rows, &out.row_loss);
    }
  }
  return outcomes;
}

ScoreOutcome ScoreAlone(Backend& backend, const ScoreCase& c, const ScoreLayout& layout) {
  InlineExecutor executor;
  const ScoreCase* const one[] = {&c};
  return ScoreBatch(backend, executor, one, layout)[0];
}

}  // namespace softloss::testing
