#include "kernels/cpu/region_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/transpose.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

// Predictions and labels stay in the second cache between the passes over them, and the lines of tiles
// are read in long pieces.
constexpr std::size_t kReadElements = 1 << 16, kReadRows = 2048;
// What SegmentIo reads at a time.
constexpr std::size_t kIoRows = 256;

std::size_t Padded(std::size_t n) { return (n + kRowQuantum - 1) / kRowQuantum * kRowQuantum; }

template <typename T>
void CountElement(PredictionKind kind, T x, T t, Tally& tally) {
  const bool scorable = kind == PredictionKind::kLogits || (x >= 0 && x <= 1);
  tally.nonfinite_predictions += !std::isfinite(x) || !scorable;
  tally.nonfinite_labels += !std::isfinite(t);
  tally.out_of_range_labels += std::isfinite(t) && (t < 0 || t > 1);
}

// Softmax of the row, in place; all NaN if it has none.
void ExactSoftmax(std::vector<double>& x) {
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  bool number = true;
  for (double v : x) {
    max = std::max(max, v);
    number &= !std::isnan(v);
  }
  if (!number || std::isinf(max)) {
    std::fill(x.begin(), x.end(), std::numeric_limits<double>::quiet_NaN());
    return;
  }
  for (double& v : x) sum += v = std::exp(v - max);
  for (double& v : x) v /= sum;
}

}  // namespace

std::size_t RegionReadRows(std::size_t classes) {
  std::size_t rows = kReadRows;
  while (rows > kRowQuantum && rows * classes > kReadElements) rows /= 2;
  return rows;
}

template <typename T>
RegionReader<T>::RegionReader(const ScoreKey& key, const Segment& segment, Scratch& scratch)
    : io_(key, segment, scratch),
      spec_(*segment.spec),
      scratch_(scratch),
      selection_(spec_, static_cast<std::size_t>(key.classes)),
      exclusive_(key.activation == Activation::kSoftmax),
      has_ids_(key.label.kind == LabelKind::kClassId),
      tolerance_(NormalizationTolerance(key.label, key.classes)) {
  const T* ignore = nullptr;
  // An ignore value that the type of computation cannot hold equals no label.
  if (spec_.ignore_value.has_value()) {
    ignore_ = static_cast<T>(*spec_.ignore_value);
    if (std::isnan(ignore_) || static_cast<double>(ignore_) == *spec_.ignore_value) {
      ignore = &ignore_;
    }
  }
  const std::size_t rows = RegionReadRows(static_cast<std::size_t>(key.classes));
  T* const arrays = scratch.rows.template Get<T>(6 * rows);
  weight_ = arrays;
  arrays_ = {
      arrays,           arrays + rows, arrays + 2 * rows, arrays + 3 * rows, arrays + 4 * rows,
      arrays + 5 * rows};
  ids_ = scratch.ids.template Get<std::int64_t>(rows);

  block_.classes = selection_.count();
  block_.row_weight = weight_;
  block_.unusual = arrays_.unusual;
  block_.spec = &spec_;
  if (!exclusive_) {
    block_.smoothing = static_cast<T>(spec_.label_smoothing);
    block_.ignore = ignore;
    return;
  }
  transform_.row_sum = key.label.dtype == DType::kU8 && key.label.scale == LabelScale::kRowSum;
  transform_.ignore = ignore;
  transform_.renormalize = spec_.label_check == LabelCheck::kRenormalize;
  transform_.smoothing = static_cast<T>(spec_.label_smoothing);
  transforms_ = transform_.row_sum || transform_.ignore != nullptr || transform_.renormalize ||
                transform_.smoothing > 0;
}

template <typename T>
std::int64_t RegionReader<T>::Element(std::size_t c) const {
  const auto cls = static_cast<std::int64_t>(c);
  return io_.key().class_last ? row_ * io_.key().classes + cls : cls * io_.segment().rows + row_;
}

template <typename T>
absl::Status RegionReader<T>::Read(std::int64_t row, std::size_t n, Tally* tally) {
  row_ = row;
  rows_ = n;
  for (std::size_t i = 0; i < n; i += kIoRows) {
    const std::size_t part = std::min(kIoRows, n - i);
    absl::Status status =
        io_.ReadRows(row + static_cast<std::int64_t>(i), part, weight_ + i, ids_ + i);
    if (!status.ok()) return status;
  }
  block_.positions = Padded(n);
  block_.stride = block_.positions + kRowQuantum;
  block_.x = scratch_.x.template Get<T>(block_.classes * block_.stride);
  block_.t = scratch_.t.template Get<T>(block_.classes * block_.stride);
  LoadColumns(io_.key().class_last, block_.x,
              [&](std::int64_t at, std::size_t m, T* to) { return io_.Predictions(at, m, to); });
  if (has_ids_) {
    LoadIds();
  } else {
    LoadColumns(io_.key().class_last, block_.t,
                [&](std::int64_t at, std::size_t m, T* to) { return io_.Labels(at, m, to); });
  }
  if (exclusive_ && (transforms_ || tally != nullptr)) Transform(tally);
  return absl::OkStatus();
}

template <typename T>
template <class ReadElements>
void RegionReader<T>::LoadColumns(bool by_rows, T* to, ReadElements read) {
  if (by_rows) {
    const std::size_t elements = rows_ * selection_.classes();
    const T* from = read(Element(0), elements, scratch_.decoded.template Get<T>(elements));
    if (!selection_.all()) {
      T* const squeezed = scratch_.g.template Get<T>(rows_ * block_.classes);
      selection_.Squeeze(from, rows_, squeezed);
      from = squeezed;
    }
    if (block_.classes == 1) {
      std::memcpy(to, from, rows_ * sizeof(T));
    } else {
      RowsToColumns(from, rows_, block_.classes, to, block_.stride);
    }
    return;
  }
  for (std::size_t c = 0; c < block_.classes; ++c) {
    T* const line = to + c * block_.stride;
    const T* from = read(Element(selection_.Index(c)), rows_, line);
    if (from != line) std::memcpy(line, from, rows_ * sizeof(T));
  }
}

template <typename T>
void RegionReader<T>::LoadIds() {
  std::fill_n(block_.t, block_.classes * block_.stride, T(0));
  for (std::size_t i = 0; i < rows_; ++i) {
    const std::int64_t position = ids_[i] < 0 ? -1 : selection_.Position(ids_[i]);
    if (position >= 0) block_.t[static_cast<std::size_t>(position) * block_.stride + i] = 1;
  }
}

template <typename T>
void RegionReader<T>::Transform(Tally* tally) {
  ClassColumns<T> columns;
  columns.classes = block_.classes;
  columns.rows = rows_;
  columns.stride = block_.stride;
  columns.t = block_.t;
  TransformLabels(transform_, columns, arrays_);
  if (tally == nullptr) return;
  for (std::size_t i = 0; i < rows_; ++i) {
    const double off = static_cast<double>(arrays_.label_sum[i]) - 1;
    tally->unnormalized_labels += weight_[i] > 0 && std::fabs(off) > tolerance_;
  }
}

template <typename T>
void RegionReader<T>::Predict(const RegionKernels<T>& kernels, Tally* tally) {
  if (kernels.predict == nullptr) return;
  // Labels that are out of range were marked by Transform().
  T* const labels = scratch_.spare.template Get<T>(block_.stride);
  if (tally != nullptr) std::memcpy(labels, arrays_.unusual, rows_ * sizeof(T));
  const bool unusual = kernels.predict(block_);
  const bool logits = spec_.prediction_kind == PredictionKind::kLogits;
  std::vector<double> x, t;
  for (std::size_t i = 0; i < rows_; ++i) {
    const bool redo = unusual && arrays_.unusual[i] != 0;
    const bool count = tally != nullptr && weight_[i] > 0 && (redo || labels[i] != 0);
    if (!redo && !count) continue;
    x.resize(block_.classes);
    t.resize(block_.classes);
    ReadRow(i, x.data(), t.data());
    for (std::size_t c = 0; count && c < x.size(); ++c) {
      CountElement(spec_.prediction_kind, x[c], t[c], *tally);
    }
    if (!redo) continue;
    if (logits) ExactSoftmax(x);
    for (std::size_t c = 0; c < x.size(); ++c) {
      const bool scorable = logits || (x[c] >= 0 && x[c] <= 1);
      block_.x[c * block_.stride + i] =
          scorable ? static_cast<T>(x[c]) : std::numeric_limits<T>::quiet_NaN();
    }
  }
}

template <typename T>
void RegionReader<T>::ReadRow(std::size_t i, double* x, double* t) {
  const ScoreKey& key = io_.key();
  const auto classes = static_cast<std::size_t>(key.classes);
  const std::int64_t row = row_ + static_cast<std::int64_t>(i);
  const std::int64_t begin = key.class_last ? row * key.classes : row;
  const std::int64_t stride = key.class_last ? 1 : io_.segment().rows;
  T* const all = scratch_.exact_decoded.template Get<T>(classes);
  io_.StridedPredictions(begin, stride, classes, all);
  for (std::size_t c = 0; c < block_.classes; ++c) {
    x[c] = static_cast<double>(all[selection_.Index(c)]);
  }
  if (has_ids_) {
    for (std::size_t c = 0; c < block_.classes; ++c) {
      t[c] = static_cast<std::int64_t>(selection_.Index(c)) == ids_[i];
    }
    return;
  }
  io_.StridedLabels(begin, stride, classes, all);
  double sum = 0;
  for (std::size_t c = 0; c < block_.classes; ++c) {
    sum += t[c] = static_cast<double>(all[selection_.Index(c)]);
  }
  for (std::size_t c = 0; transform_.row_sum && c < block_.classes; ++c) t[c] /= std::max(sum, 1.0);
}

template <typename T>
void RegionReader<T>::CountElements(Tally& tally) const {
  for (std::size_t c = 0; c < block_.classes; ++c) {
    for (std::size_t i = 0; i < rows_; ++i) {
      const T x = block_.x[c * block_.stride + i], t = block_.t[c * block_.stride + i];
      const bool ignored = block_.ignore != nullptr &&
                           (t == *block_.ignore || (std::isnan(t) && std::isnan(*block_.ignore)));
      if (weight_[i] > 0 && !ignored) CountElement(spec_.prediction_kind, x, t, tally);
    }
  }
}

template <typename T>
void RegionReader<T>::WriteGradient() {
  if (io_.key().class_last) {
    const std::size_t elements = rows_ * selection_.classes();
    T* const place =
        io_.GradientPlace(Element(0), elements, scratch_.decoded.template Get<T>(elements));
    if (selection_.all()) {
      ColumnsToRows(block_.x, block_.stride, rows_, block_.classes, place);
    } else {
      T* const squeezed = scratch_.g.template Get<T>(rows_ * block_.classes);
      ColumnsToRows(block_.x, block_.stride, rows_, block_.classes, squeezed);
      selection_.Spread(squeezed, rows_, place);
    }
    io_.WriteGradient(Element(0), elements, place);
    return;
  }
  for (std::size_t c = 0; c < block_.classes; ++c) {
    io_.WriteGradient(Element(selection_.Index(c)), rows_, block_.x + c * block_.stride);
  }
  if (selection_.all()) return;
  std::fill_n(block_.x, rows_, T(0));
  for (std::size_t c = 0; c < selection_.classes(); ++c) {
    if (!selection_.Exists(c)) io_.WriteGradient(Element(c), rows_, block_.x);
  }
}

template class RegionReader<float>;
template class RegionReader<double>;

}  // namespace softloss::cpu
