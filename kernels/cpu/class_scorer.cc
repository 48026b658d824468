#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_selection.h"
#include "kernels/cpu/column_block.h"
#include "kernels/cpu/label_transform.h"
#include "kernels/cpu/long_row.h"
#include "kernels/cpu/scorer.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/stream.h"
#include "kernels/cpu/unusual_rows.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

// Up to so many classes, rows are turned into columns: a row would fill few vectors.
constexpr std::size_t kMaxTransposedClasses = 128;
// From so many on, where a loss can, they are not: the turning costs more than lanes that go unused.
constexpr std::size_t kMinShortRowClasses = 40;
// Elements of short rows that are read and written at a time: they stay in the L1 cache.
constexpr std::size_t kShortRowElements = 2048;
// Tiles have more classes than this only with leaves of less than a SIMD vector of rows.
constexpr std::size_t kMaxTileClasses = 1024;
constexpr std::size_t kMaxLeafRows = 256;

// For `classes` that exist.
bool UsesColumns(std::size_t classes, bool class_last) {
  return classes <= (class_last ? kMaxTransposedClasses : kMaxTileClasses);
}

// Rows whose logits and labels stay in the nearest caches between the passes. The lines of tiles are
// read and written in pieces of that many, which must not be too short.
std::size_t ColumnRows(std::size_t classes, bool class_last) {
  std::size_t rows = kMaxLeafRows;
  while (rows > 32 && rows * classes > (class_last ? 3072 : 6144)) rows /= 2;
  return rows;
}

// A multiple of the lanes of any SIMD width, or fewer than that.
std::size_t ShortRows(std::size_t classes) {
  const std::size_t rows = std::max<std::size_t>(1, kShortRowElements / classes);
  return rows < kRowQuantum ? rows : rows / kRowQuantum * kRowQuantum;
}

template <typename T>
class ClassScorer {
 public:
  ClassScorer(const ScoreKey& key, const Segment& segment, Scratch& scratch, Tally& tally)
      : io_(key, segment, scratch),
        spec_(*segment.spec),
        parameters_(ParametersOf(spec_)),
        loss_(*FindClassLoss<T>(spec_)),
        scratch_(scratch),
        tally_(tally),
        selection_(spec_, static_cast<std::size_t>(key.classes)),
        classes_(selection_.count()),
        dense_(key.label.kind != LabelKind::kClassId),
        columns_(UsesColumns(classes_, key.class_last)),
        tolerance_(NormalizationTolerance(key.label, key.classes)) {
    transform_.row_sum = key.label.dtype == DType::kU8 && key.label.scale == LabelScale::kRowSum;
    transform_.renormalize = dense_ && spec_.label_check == LabelCheck::kRenormalize;
    transform_.smoothing = spec_.label_smoothing;
    // An ignore value that the type of computation cannot hold equals no label.
    if (spec_.ignore_value.has_value()) {
      ignore_ = static_cast<T>(*spec_.ignore_value);
      if (std::isnan(*spec_.ignore_value) || static_cast<double>(ignore_) == *spec_.ignore_value) {
        transform_.ignore = &ignore_;
      }
    }
    if (!spec_.class_weight.empty()) {
      T* weight = scratch.class_weight.Get<T>(classes_);
      for (std::size_t i = 0; i < classes_; ++i) {
        weight[i] = static_cast<T>(spec_.class_weight[selection_.Index(i)]);
      }
      transform_.class_weight = weight;
      transform_.weighs_labels = loss_.weighs_labels;
      if (!loss_.weighs_labels) term_weight_ = weight;
    }
    transforms_ = transform_.row_sum || transform_.renormalize || transform_.smoothing > 0 ||
                  transform_.ignore != nullptr || transform_.class_weight != nullptr;
    as_given_ = key.class_last && selection_.all() && !transforms_ && (dense_ || loss_.takes_ids);
    short_rows_ = as_given_ && loss_.short_rows != nullptr && classes_ >= kMinShortRowClasses &&
                  classes_ <= kMaxWholeRow;

    T* arrays = scratch.rows.Get<T>(9 * kMaxLeafRows);
    const auto next = [&] { return std::exchange(arrays, arrays + kMaxLeafRows); };
    rows_ = {next(), next(), next(), next(), next(), next()};
    base_ = next();
    log_factor_ = next();
    others_ = next();
    ids_ = scratch.ids.Get<std::int64_t>(kMaxLeafRows);
  }

  absl::Status ScoreLeaf(std::int64_t row, std::size_t n, LeafSum& sum) {
    if (absl::Status status = io_.ReadRows(row, n, rows_.row_weight, ids_); !status.ok()) {
      return status;
    }
    sum = LeafSum();
    if (short_rows_) {
      const std::size_t step = ShortRows(classes_);
      std::fill(rows_.loss + n, rows_.loss + (n + kRowQuantum - 1) / kRowQuantum * kRowQuantum,
                T(0));
      for (std::size_t i = 0; i < n; i += step) {
        ScoreShortRows(row + static_cast<std::int64_t>(i), i, std::min(step, n - i), sum);
      }
    } else if (columns_) {
      const std::size_t step = ColumnRows(classes_, io_.key().class_last);
      for (std::size_t i = 0; i < n; i += step) {
        ScoreColumns(row + static_cast<std::int64_t>(i), i, std::min(step, n - i), sum);
      }
    } else {
      std::fill_n(rows_.gradient_square, kMaxLeafRows, T(0));
      const bool tiles = as_given_ && loss_.takes_tiles && classes_ > kMaxWholeRow;
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t at = row + static_cast<std::int64_t>(i);
        tiles ? ScoreLongRow(at, i, sum) : ScoreRow(at, i, sum);
      }
      FinishLosses(n, rows_, base_, log_factor_, others_);
    }
    SumRows(n, rows_, tolerance_, sum, tally_);
    if (io_.wants_row_loss()) io_.WriteRowLoss(row, n, rows_.loss);
    return absl::OkStatus();
  }

 private:
  std::int64_t Element(std::int64_t row, std::size_t c) const {
    const auto cls = static_cast<std::int64_t>(c);
    return io_.key().class_last ? row * io_.key().classes + cls : cls * io_.segment().rows + row;
  }

  // Rows [row, row + n), entries [begin, begin + n) of the leaf's arrays, as columns.
  void ScoreColumns(std::int64_t row, std::size_t begin, std::size_t n, LeafSum& sum) {
    ClassColumns<T> block = column_block_.Read(row, n, dense_, ids_ + begin);
    block.check_labels = !transforms_;
    block.class_weight = term_weight_;
    block.spec = &spec_;
    block.parameters = &parameters_;
    const RowArrays<T> rows = rows_.From(begin);
    bool unusual = transforms_ && TransformLabels(transform_, block, rows);
    unusual |= loss_.columns(block, rows);
    if (!block.gradient) std::fill_n(rows.gradient_square, block.stride, T(0));
    if (unusual) {
      RepairRows(row, begin, n, sum, [&](std::size_t i, const double* gradient) {
        for (std::size_t c = 0; c < classes_; ++c) {
          block.x[c * block.stride + i] = static_cast<T>(gradient[selection_.Index(c)]);
        }
      });
    }
    if (block.gradient) column_block_.WriteGradient(row, block);
  }

  // The same, by rows.
  void ScoreShortRows(std::int64_t row, std::size_t begin, std::size_t n, LeafSum& sum) {
    const std::int64_t at = Element(row, 0);
    const std::size_t elements = n * classes_;
    ClassRows<T> block;
    block.classes = classes_;
    block.rows = n;
    block.x = io_.Predictions(at, elements, scratch_.x.template Get<T>(elements));
    if (dense_) block.t = io_.Labels(at, elements, scratch_.t.template Get<T>(elements));
    block.ids = ids_ + begin;
    block.raw.x = io_.RawPredictions(at, elements);
    block.raw.x_size = SizeOf(io_.key().prediction);
    block.raw.t = dense_ ? io_.RawLabels(at, elements) : nullptr;
    block.raw.t_size = SizeOf(io_.key().label.dtype);
    block.spare = scratch_.spare.template Get<T>(kRowQuantum * (classes_ + kRowQuantum));
    if (io_.wants_gradient()) {
      if (classes_ * sizeof(T) % StreamAlignment() == 0) {
        block.gradient = io_.StreamedGradientPlace(at, elements);
        block.streams = block.gradient != nullptr;
      }
      if (!block.streams) {
        block.gradient =
            io_.GradientPlace(at, elements, scratch_.decoded.template Get<T>(elements));
      }
    }
    const RowArrays<T> rows = rows_.From(begin);
    const bool unusual = loss_.short_rows(block, rows);
    if (block.gradient == nullptr) std::fill_n(rows.gradient_square, n, T(0));
    if (unusual) {
      RepairRows(row, begin, n, sum, [&](std::size_t i, const double* gradient) {
        if (block.gradient == nullptr) return;
        if (block.streams) FlushStream();  // what is written again comes after it
        StoreUnaligned(gradient, classes_, block.gradient + i * classes_);
      });
    }
    if (block.gradient != nullptr) io_.WriteGradient(at, elements, block.gradient);
  }

  // Looks at the rows of entries [begin, begin + n) that are marked as unusual; where the exact results
  // are taken, calls replace(row from 0, their gradient [all classes], with the row weight).
  template <class Replace>
  void RepairRows(std::int64_t row, std::size_t begin, std::size_t n, LeafSum& sum,
                  Replace replace) {
    const RowArrays<T> rows = rows_.From(begin);
    for (std::size_t i = 0; i < n; ++i) {
      if (rows.unusual[i] == 0 || !(rows.row_weight[i] > 0)) continue;
      const double* gradient = Examine(row + static_cast<std::int64_t>(i), begin + i,
                                       rows.unusual[i] < T(kRescore), sum);
      if (gradient == nullptr) continue;
      rows.loss[i] = static_cast<T>(static_cast<double>(rows.row_weight[i]) * unusual_.loss());
      replace(i, gradient);
    }
  }

  static void StoreUnaligned(const double* from, std::size_t n, T* to) {
    for (std::size_t c = 0; c < n; ++c) {
      const T g = static_cast<T>(from[c]);
      std::memcpy(reinterpret_cast<std::byte*>(to) + c * sizeof(T), &g, sizeof(T));
    }
  }

  // Row `row`, entry `i` of the leaf's arrays, tile by tile. Fills base_, log_factor_ and others_.
  void ScoreLongRow(std::int64_t row, std::size_t i, LeafSum& sum) {
    base_[i] = log_factor_[i] = others_[i] = 0;
    rows_.label_sum[i] = 1;
    rows_.class_weighted[i] = T(rows_.row_weight[i] > 0);
    ClassRow<T> in = long_row_.Read(row, dense_);
    if (!(rows_.row_weight[i] > 0)) return long_row_.Replace([](std::size_t) { return T(0); });
    in.id = ids_[i];
    in.row_weight = rows_.row_weight[i];
    in.class_weight = term_weight_;
    in.spec = &spec_;
    in.parameters = &parameters_;
    const ClassRowResult<T> result = loss_.row(in);
    base_[i] = result.loss;
    log_factor_[i] = result.log_factor;
    others_[i] = result.others;
    rows_.gradient_square[i] = result.gradient_square;
    if (dense_) rows_.label_sum[i] = rows_.class_weighted[i] = result.label_sum;
    if (result.usable && result.in_range) return;
    if (const double* exact = RepairRow(row, i, result.usable, sum)) {
      long_row_.Replace([&](std::size_t c) { return static_cast<T>(exact[c]); });
    }
  }

  // Row `row`, entry `i` of the leaf's arrays, on its own. Fills base_, log_factor_ and others_.
  void ScoreRow(std::int64_t row, std::size_t i, LeafSum& sum) {
    base_[i] = log_factor_[i] = others_[i] = 0;
    rows_.label_sum[i] = 1;
    rows_.class_weighted[i] = 0;
    const bool class_last = io_.key().class_last;
    const std::size_t all_classes = selection_.classes();
    T* const gradient_scratch = scratch_.g.template Get<T>(all_classes);
    T* gradient = nullptr;
    if (io_.wants_gradient()) {
      gradient = class_last && selection_.all()
                     ? io_.GradientPlace(Element(row, 0), all_classes, gradient_scratch)
                     : gradient_scratch;
    }

    ClassRow<T> in;
    in.class_weight = term_weight_;
    in.spec = &spec_;
    in.parameters = &parameters_;
    in.spare = scratch_.spare.template Get<T>(classes_);
    in.classes = classes_;
    in.row_weight = rows_.row_weight[i];
    in.gradient = gradient;
    bool in_range = true;
    if (in.row_weight >= 0 && dense_ && (in.row_weight > 0 || transform_.ignore != nullptr)) {
      in_range = ReadLabelRow(row, i, in);
      in.row_weight = rows_.row_weight[i];
    }
    if (in.row_weight > 0) {
      if (!dense_) {
        in.id = selection_.Position(ids_[i]);
        const bool exists = in.id >= 0;
        if (!exists) rows_.label_sum[i] = 0;
        rows_.class_weighted[i] =
            exists && transform_.class_weight ? transform_.class_weight[in.id] : T(exists);
        in.id_weight = term_weight_ ? T(1) : rows_.class_weighted[i];
        if (transform_.smoothing > 0 || !loss_.takes_ids || !exists) {
          T* t = scratch_.t.template Get<T>(classes_);
          std::fill_n(t, classes_, T(0));
          if (exists) t[in.id] = 1;
          if (transforms_) TransformLabelRow(transform_, t, classes_);
          in.t = t;
        }
      }
      T* x = scratch_.x.template Get<T>(all_classes);
      in.x = x;
      if (class_last) {
        in.x = io_.Predictions(Element(row, 0), all_classes, x);
      } else {
        io_.StridedPredictions(row, io_.segment().rows, all_classes, x);
      }
      in.x = Select(in.x, x);
      const ClassRowResult<T> result = loss_.row(in);
      base_[i] = result.loss;
      log_factor_[i] = result.log_factor;
      others_[i] = result.others;
      rows_.gradient_square[i] = result.gradient_square;
      if (dense_ && !transforms_) {
        rows_.label_sum[i] = rows_.class_weighted[i] = result.label_sum;
        in_range = result.in_range;
      }
      if (gradient != nullptr && !selection_.all()) selection_.Spread(gradient, 1, gradient);
      if (!result.usable || !in_range) {
        const double* exact = RepairRow(row, i, result.usable, sum);
        if (exact != nullptr && gradient != nullptr) {
          StoreUnaligned(exact, all_classes, gradient);
        }
      }
    } else if (gradient != nullptr) {
      std::fill_n(reinterpret_cast<std::byte*>(gradient), all_classes * sizeof(T), std::byte{0});
    }
    if (gradient == nullptr) return;
    if (class_last) {
      io_.WriteGradient(Element(row, 0), all_classes, gradient);
    } else {
      io_.WriteStridedGradient(row, io_.segment().rows, all_classes, gradient);
    }
  }

  // Of a row of all classes those that exist: `from` itself or `to`, which may be one.
  const T* Select(const T* from, T* to) const {
    if (selection_.all()) return from;
    selection_.Squeeze(from, 1, to);
    return to;
  }

  // Gives `in` its dense labels; false if one is out of range.
  bool ReadLabelRow(std::int64_t row, std::size_t i, ClassRow<T>& in) {
    const std::size_t all_classes = selection_.classes();
    T* t = scratch_.t.template Get<T>(all_classes);
    in.t = t;
    if (io_.key().class_last) {
      in.t = io_.Labels(Element(row, 0), all_classes, t);
    } else {
      io_.StridedLabels(row, io_.segment().rows, all_classes, t);
    }
    in.t = Select(in.t, t);
    if (!transforms_) return true;
    if (in.t != t) std::memcpy(t, in.t, classes_ * sizeof(T));
    in.t = t;
    const LabelRowResult<T> labels = TransformLabelRow(transform_, t, classes_);
    if (labels.ignored) rows_.row_weight[i] = -1;
    rows_.label_sum[i] = labels.label_sum;
    rows_.class_weighted[i] = labels.class_weighted;
    return labels.in_range;
  }

  // The gradient [all classes] that the row has instead, or null if what the kernel gave stands.
  const double* RepairRow(std::int64_t row, std::size_t i, bool usable, LeafSum& sum) {
    const double* exact = Examine(row, i, usable, sum);
    if (exact == nullptr) return nullptr;
    base_[i] = static_cast<T>(unusual_.loss());
    log_factor_[i] = others_[i] = 0;
    return exact;
  }

  // UnusualRows::Examine for entry `i` of the leaf's arrays; its Σ g² goes to `sum`.
  const double* Examine(std::int64_t row, std::size_t i, bool usable, LeafSum& sum) {
    const double* gradient = unusual_.Examine(
        {row, dense_ ? -1 : ids_[i], static_cast<double>(rows_.row_weight[i]), usable});
    if (gradient == nullptr) return nullptr;
    sum.gradient_square += unusual_.gradient_square();
    rows_.gradient_square[i] = 0;
    return gradient;
  }

  SegmentIo<T> io_;
  const LossSpec& spec_;
  const LossParameters parameters_;
  const ClassLoss<T>& loss_;
  Scratch& scratch_;
  Tally& tally_;
  const ClassSelection selection_;
  const std::size_t classes_;  // that exist
  const bool dense_, columns_;
  const double tolerance_;
  LabelTransform<T> transform_;
  bool transforms_ = false;
  bool as_given_ = false;           // whole rows of all classes, and labels as they are
  bool short_rows_ = false;         // scored by the loss's short_rows
  const T* term_weight_ = nullptr;  // class weights that the loss's kernels multiply by
  T ignore_ = 0;
  RowArrays<T> rows_;
  T* base_ = nullptr;
  T* log_factor_ = nullptr;
  T* others_ = nullptr;
  std::int64_t* ids_ = nullptr;
  ColumnBlock<T> column_block_{io_, selection_};
  LongRow<T> long_row_{io_};
  UnusualRows<T> unusual_{io_, loss_, selection_, transform_, tally_};
};

}  // namespace

template <typename T>
absl::Status ScoreClassLeaves(const ScoreKey& key, const Segment& segment, std::int64_t leaf_begin,
                              std::int64_t leaf_end, Scratch& scratch, Tally& tally) {
  return ScoreEachLeaf(ClassScorer<T>(key, segment, scratch, tally), key, segment, leaf_begin,
                       leaf_end);
}

template absl::Status ScoreClassLeaves<float>(const ScoreKey&, const Segment&, std::int64_t,
                                              std::int64_t, Scratch&, Tally&);
template absl::Status ScoreClassLeaves<double>(const ScoreKey&, const Segment&, std::int64_t,
                                               std::int64_t, Scratch&, Tally&);

}  // namespace softloss::cpu
