// Rows of all classes, class axis last, that a loss scores at once: what one row waits for is another's
// work, and they are read and written in one piece. A long row is alone, and is read and written tile
// by tile.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/stream.h"

namespace softloss::cpu {

template <typename T>
class RowBlock final : private RowTiles<T> {
 public:
  static constexpr std::size_t kMaxRows = 16;
  // Few thousand logits, labels and exponentials: they stay in the L1 cache.
  static std::size_t Rows(std::size_t classes) {
    return std::clamp<std::size_t>(1024 / classes, 1, kMaxRows);
  }

  explicit RowBlock(SegmentIo<T>& io) : io_(io) {}

  // Reads rows [row, row + n), dense labels too if they are, and finds a place for their gradient.
  void Read(std::int64_t row, std::size_t n, bool dense) {
    Scratch& scratch = io_.scratch();
    size_ = 0;
    classes_ = static_cast<std::size_t>(io_.key().classes);
    elements_ = n * classes_;
    begin_ = row * io_.key().classes;
    dense_ = dense;
    tiled_ = classes_ > kMaxWholeRow;
    raw_.x = io_.RawPredictions(begin_, elements_);
    raw_.x_size = SizeOf(io_.key().prediction);
    raw_.t = dense ? io_.RawLabels(begin_, elements_) : nullptr;
    raw_.t_size = SizeOf(io_.key().label.dtype);
    spare_step_ = (classes_ + kRowQuantum - 1) / kRowQuantum * kRowQuantum;
    spare_ = scratch.spare.template Get<T>(n * spare_step_);
    if (tiled_) return;
    x_ = Logits(0, elements_);
    t_ = dense ? Labels(0, elements_) : nullptr;
    gradient_ = io_.wants_gradient() ? GradientPlace(0, elements_) : Place();
  }

  // Adds the block's row `i`, entry `entry` of the leaf's arrays. The caller fills in the rest.
  ClassRow<T>& Add(std::size_t i, std::size_t entry) {
    ClassRow<T>& row = rows_[size_];
    row.classes = classes_;
    if (tiled_) {
      row.tiles = this;
    } else {
      row.x = x_ + i * classes_;
      row.t = dense_ ? t_ + i * classes_ : nullptr;
      row.gradient = gradient_.data == nullptr ? nullptr : gradient_.data + i * classes_;
      row.streams = gradient_.streams;
    }
    row.raw = raw_;
    if (raw_.x != nullptr) row.raw.x += i * classes_ * raw_.x_size;
    if (raw_.t != nullptr) row.raw.t += i * classes_ * raw_.t_size;
    row.spare = spare_ + size_ * spare_step_;
    entries_[size_++] = entry;
    return row;
  }

  // Scores the rows that were added and calls visit(entry, result) for each.
  template <typename Visit>
  void Score(const ClassLoss<T>& loss, Visit visit) {
    if (size_ == 0) return;
    loss.rows(rows_.data(), size_, results_.data());
    for (std::size_t k = 0; k < size_; ++k) visit(entries_[k], results_[k]);
  }

  // The gradient of the block's row `i` is 0.
  void Clear(std::size_t i) {
    Replace(i, [](std::size_t) { return T(0); });
  }

  // The gradient of the block's row `i` is value(class), whatever it was before.
  template <typename Value>
  void Replace(std::size_t i, Value value) {
    if (!io_.wants_gradient()) return;
    if (!tiled_) {
      if (gradient_.streams) FlushStream();  // what is written again comes after it
      Fill(gradient_.data + i * classes_, 0, classes_, value);
      return;
    }
    for (std::size_t begin = 0; begin < classes_; begin += kMaxWholeRow) {
      const std::size_t n = std::min(kMaxWholeRow, classes_ - begin);
      T* const values = io_.scratch().g.template Get<T>(n);
      Fill(values, begin, n, value);
      FlushStream();
      io_.WriteGradient(begin_ + static_cast<std::int64_t>(begin), n, values);
    }
  }

  void Write() {
    if (!tiled_ && io_.wants_gradient()) WriteGradient(0, elements_, gradient_.data);
  }

 private:
  using Place = typename RowTiles<T>::Place;

  bool has_labels() const override { return dense_; }
  bool wants_gradient() const override { return io_.wants_gradient(); }
  const T* Logits(std::size_t begin, std::size_t n) override {
    return io_.Predictions(At(begin), n, io_.scratch().x.template Get<T>(n));
  }
  const T* Labels(std::size_t begin, std::size_t n) override {
    return io_.Labels(At(begin), n, io_.scratch().t.template Get<T>(n));
  }
  Place GradientPlace(std::size_t begin, std::size_t n) override {
    if (classes_ * sizeof(T) % StreamAlignment() == 0) {
      if (T* const place = io_.StreamedGradientPlace(At(begin), n)) return {place, true};
    }
    return {io_.GradientPlace(At(begin), n, io_.scratch().g.template Get<T>(n)), false};
  }
  void WriteGradient(std::size_t begin, std::size_t n, const T* from) override {
    io_.WriteGradient(At(begin), n, from);
  }

  std::int64_t At(std::size_t begin) const { return begin_ + static_cast<std::int64_t>(begin); }

  // To a place that may be unaligned.
  template <typename Value>
  static void Fill(T* to, std::size_t begin, std::size_t n, Value value) {
    for (std::size_t i = 0; i < n; ++i) {
      const T v = value(begin + i);
      std::memcpy(reinterpret_cast<std::byte*>(to) + i * sizeof(T), &v, sizeof(T));
    }
  }

  SegmentIo<T>& io_;
  std::array<ClassRow<T>, kMaxRows> rows_;
  std::array<ClassRowResult<T>, kMaxRows> results_;
  std::array<std::size_t, kMaxRows> entries_;
  std::size_t size_ = 0, classes_ = 0, elements_ = 0, spare_step_ = 0;
  std::int64_t begin_ = 0;
  bool dense_ = false, tiled_ = false;
  RawRow raw_;
  const T* x_ = nullptr;
  const T* t_ = nullptr;
  Place gradient_;
  T* spare_ = nullptr;
};

}  // namespace softloss::cpu
