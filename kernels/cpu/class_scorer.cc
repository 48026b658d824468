#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_selection.h"
#include "kernels/cpu/label_transform.h"
#include "kernels/cpu/row_block.h"
#include "kernels/cpu/scorer.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/transpose.h"
#include "kernels/cpu/unusual_rows.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

// Up to so many classes, rows are turned into columns: a row would fill few vectors.
constexpr std::size_t kMaxTransposedClasses = 128;
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
    if (columns_) {
      const std::size_t step = ColumnRows(classes_, io_.key().class_last);
      for (std::size_t i = 0; i < n; i += step) {
        ScoreColumns(row + static_cast<std::int64_t>(i), i, std::min(step, n - i), sum);
      }
    } else {
      std::fill_n(rows_.gradient_square, kMaxLeafRows, T(0));
      const bool at_once = loss_.rows != nullptr && io_.key().class_last && selection_.all() &&
                           !transforms_ && (dense_ || loss_.takes_ids);
      const std::size_t step = at_once ? RowBlock<T>::Rows(classes_) : 1;
      for (std::size_t i = 0; i < n; i += step) {
        const std::int64_t at = row + static_cast<std::int64_t>(i);
        at_once ? ScoreRows(at, i, std::min(step, n - i), sum) : ScoreRow(at, i, sum);
      }
      FinishLosses(n, rows_, base_, log_factor_, others_);
    }
    SumRows(n, rows_, tolerance_, sum, tally_);
    if (io_.wants_row_loss()) io_.WriteRowLoss(row, n, rows_.loss);
    return absl::OkStatus();
  }

 private:
  using Block = ClassColumns<T>;

  std::int64_t Element(std::int64_t row, std::size_t c) const {
    const auto cls = static_cast<std::int64_t>(c);
    return io_.key().class_last ? row * io_.key().classes + cls : cls * io_.segment().rows + row;
  }

  // Rows [row, row + n), entries [begin, begin + n) of the leaf's arrays, as columns.
  void ScoreColumns(std::int64_t row, std::size_t begin, std::size_t n, LeafSum& sum) {
    Block block;
    block.classes = classes_;
    block.rows = n;
    block.stride = (n + kRowQuantum - 1) / kRowQuantum * kRowQuantum;
    block.x = scratch_.x.template Get<T>(classes_ * block.stride);
    block.t = scratch_.t.template Get<T>(classes_ * block.stride);
    block.gradient = io_.wants_gradient();
    block.check_labels = !transforms_;
    block.class_weight = term_weight_;
    block.spec = &spec_;
    block.parameters = &parameters_;
    block.spare = scratch_.spare.template Get<T>(classes_ * block.stride);
    ahead_.clear();
    LoadColumns(row, block, io_.key().class_last, block.x,
                [&](std::int64_t at, std::size_t m, T* to) {
                  LookAhead(io_.RawPredictions(at, m), m * SizeOf(io_.key().prediction));
                  return io_.Predictions(at, m, to);
                });
    if (dense_) {
      const bool by_rows = io_.key().class_last || io_.sparse();
      LoadColumns(row, block, by_rows, block.t, [&](std::int64_t at, std::size_t m, T* to) {
        LookAhead(io_.RawLabels(at, m), m * SizeOf(io_.key().label.dtype));
        return io_.Labels(at, m, to);
      });
    } else {
      std::fill_n(block.t, classes_ * block.stride, T(0));
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t id = ids_[begin + i];
        const std::int64_t position = id < 0 ? -1 : selection_.Position(id);
        if (position >= 0) block.t[static_cast<std::size_t>(position) * block.stride + i] = 1;
      }
    }
    block.ahead = ahead_;
    const RowArrays<T> rows = rows_.From(begin);
    bool unusual = transforms_ && TransformLabels(transform_, block, rows);
    unusual |= loss_.columns(block, rows);
    if (!block.gradient) std::fill_n(rows.gradient_square, block.stride, T(0));
    if (unusual) {
      for (std::size_t i = 0; i < n; ++i) {
        if (rows.unusual[i] == 0 || !(rows.row_weight[i] > 0)) continue;
        const double* gradient = Examine(row + static_cast<std::int64_t>(i), begin + i,
                                         rows.unusual[i] < T(kRescore), sum);
        if (gradient == nullptr) continue;
        rows.loss[i] = static_cast<T>(static_cast<double>(rows.row_weight[i]) * unusual_.loss());
        for (std::size_t c = 0; c < classes_; ++c) {
          block.x[c * block.stride + i] = static_cast<T>(gradient[selection_.Index(c)]);
        }
      }
    }
    if (block.gradient) StoreColumns(row, block);
  }

  // What follows what lies in one piece, the next block's, comes in while the kernel works.
  void LookAhead(const std::byte* raw, std::size_t size) {
    if (raw != nullptr) ahead_.push_back({raw + size, size});
  }

  // `by_rows`: `read` reads [rows, classes], wherever the class axis is.
  template <class Read>
  void LoadColumns(std::int64_t row, const Block& block, bool by_rows, T* to, Read read) {
    if (by_rows) {
      const std::size_t elements = block.rows * selection_.classes();
      T* const decoded = scratch_.decoded.template Get<T>(elements);
      const T* from = read(row * io_.key().classes, elements, decoded);
      if (!selection_.all()) {
        T* squeezed = scratch_.g.template Get<T>(block.rows * classes_);
        selection_.Squeeze(from, block.rows, squeezed);
        from = squeezed;
      }
      RowsToColumns(from, block.rows, classes_, to, block.stride);
      return;
    }
    for (std::size_t c = 0; c < classes_; ++c) {
      T* line = to + c * block.stride;
      const T* from = read(Element(row, selection_.Index(c)), block.rows, line);
      if (from != line) std::memcpy(line, from, block.rows * sizeof(T));
    }
  }

  void StoreColumns(std::int64_t row, const Block& block) {
    if (io_.key().class_last) {
      const std::size_t elements = block.rows * selection_.classes();
      T* place =
          io_.GradientPlace(Element(row, 0), elements, scratch_.decoded.template Get<T>(elements));
      if (selection_.all()) {
        ColumnsToRows(block.x, block.stride, block.rows, classes_, place);
      } else {
        T* squeezed = scratch_.g.template Get<T>(block.rows * classes_);
        ColumnsToRows(block.x, block.stride, block.rows, classes_, squeezed);
        selection_.Spread(squeezed, block.rows, place);
      }
      io_.WriteGradient(Element(row, 0), elements, place);
      return;
    }
    for (std::size_t c = 0; c < classes_; ++c) {
      io_.WriteGradient(Element(row, selection_.Index(c)), block.rows, block.x + c * block.stride);
    }
    if (selection_.all()) return;
    std::fill_n(block.x, block.rows, T(0));
    for (std::size_t c = 0; c < selection_.classes(); ++c) {
      if (!selection_.Exists(c)) io_.WriteGradient(Element(row, c), block.rows, block.x);
    }
  }

  // Rows [row, row + n), entries [begin, begin + n) of the leaf's arrays, whose labels are as given.
  void ScoreRows(std::int64_t row, std::size_t begin, std::size_t n, LeafSum& sum) {
    block_.Read(row, n, dense_);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t entry = begin + i;
      const bool active = rows_.row_weight[entry] > 0;
      base_[entry] = log_factor_[entry] = others_[entry] = 0;
      rows_.label_sum[entry] = 1;
      rows_.class_weighted[entry] = T(active);
      if (!active) {
        block_.Clear(i);
        continue;
      }
      ClassRow<T>& in = block_.Add(i, entry);
      in.id = ids_[entry];
      in.row_weight = rows_.row_weight[entry];
      in.class_weight = term_weight_;
      in.spec = &spec_;
      in.parameters = &parameters_;
    }
    block_.Score(loss_, [&](std::size_t entry, const ClassRowResult<T>& result) {
      base_[entry] = result.loss;
      log_factor_[entry] = result.log_factor;
      others_[entry] = result.others;
      rows_.gradient_square[entry] = result.gradient_square;
      if (dense_) rows_.label_sum[entry] = rows_.class_weighted[entry] = result.label_sum;
      if (result.usable && result.in_range) return;
      const std::size_t i = entry - begin;
      if (const double* exact =
              RepairRow(row + static_cast<std::int64_t>(i), entry, result.usable, sum)) {
        block_.Replace(i, [&](std::size_t c) { return static_cast<T>(exact[c]); });
      }
    });
    block_.Write();
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
          for (std::size_t c = 0; c < all_classes; ++c) {
            const T g = static_cast<T>(exact[c]);
            std::memcpy(reinterpret_cast<std::byte*>(gradient) + c * sizeof(T), &g, sizeof(T));
          }
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
  const T* term_weight_ = nullptr;  // class weights that the loss's kernels multiply by
  T ignore_ = 0;
  RowArrays<T> rows_;
  T* base_ = nullptr;
  T* log_factor_ = nullptr;
  T* others_ = nullptr;
  std::int64_t* ids_ = nullptr;
  std::vector<Fragment> ahead_;
  RowBlock<T> block_{io_};
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
