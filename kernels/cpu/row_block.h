// Rows of all classes, class axis last, that a loss scores at once: what one row waits for is another's
// work, and they are read and written in one piece.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/stream.h"

namespace softloss::cpu {

template <typename T>
class RowBlock {
 public:
  static constexpr std::size_t kMaxRows = 16;
  // Few thousand logits, labels and exponentials: they stay in the L1 cache.
  static std::size_t Rows(std::size_t classes) {
    return std::clamp<std::size_t>(1024 / classes, 1, kMaxRows);
  }

  // Reads rows [row, row + n), dense labels too if they are, and finds a place for their gradient.
  void Read(SegmentIo<T>& io, std::int64_t row, std::size_t n, bool dense) {
    Scratch& scratch = io.scratch();
    size_ = 0;
    classes_ = static_cast<std::size_t>(io.key().classes);
    elements_ = n * classes_;
    begin_ = row * io.key().classes;
    x_ = io.Predictions(begin_, elements_, scratch.x.template Get<T>(elements_));
    t_ = dense ? io.Labels(begin_, elements_, scratch.t.template Get<T>(elements_)) : nullptr;
    gradient_ = nullptr;
    streams_ = false;
    if (io.wants_gradient()) {
      if (classes_ * sizeof(T) % StreamAlignment() == 0) {
        gradient_ = io.StreamedGradientPlace(begin_, elements_);
        streams_ = gradient_ != nullptr;
      }
      if (!streams_) {
        T* const place = scratch.g.template Get<T>(elements_);
        gradient_ = io.GradientPlace(begin_, elements_, place);
      }
    }
    spare_step_ = (classes_ + kRowQuantum - 1) / kRowQuantum * kRowQuantum;
    spare_ = scratch.spare.template Get<T>(n * spare_step_);
  }

  // Adds the block's row `i`, entry `entry` of the leaf's arrays. The caller fills in the rest.
  ClassRow<T>& Add(std::size_t i, std::size_t entry) {
    ClassRow<T>& row = rows_[size_];
    row.classes = classes_;
    row.x = x_ + i * classes_;
    row.t = t_ == nullptr ? nullptr : t_ + i * classes_;
    row.gradient = gradient_ == nullptr ? nullptr : gradient_ + i * classes_;
    row.streams = streams_;
    row.spare = spare_ + size_ * spare_step_;
    entries_[size_++] = entry;
    return row;
  }

  // The gradient of the block's row `i`, which is not scored, is 0.
  void Clear(std::size_t i) {
    if (gradient_ == nullptr) return;
    std::fill_n(reinterpret_cast<std::byte*>(gradient_ + i * classes_), classes_ * sizeof(T),
                std::byte{0});
  }

  // Scores the rows that were added and calls visit(entry, row, result) for each.
  template <typename Visit>
  void Score(const ClassLoss<T>& loss, Visit visit) {
    if (size_ == 0) return;
    loss.rows(rows_.data(), size_, results_.data());
    for (std::size_t k = 0; k < size_; ++k) visit(entries_[k], rows_[k], results_[k]);
  }

  void Write(SegmentIo<T>& io) {
    if (gradient_ != nullptr) io.WriteGradient(begin_, elements_, gradient_);
  }

 private:
  std::array<ClassRow<T>, kMaxRows> rows_;
  std::array<ClassRowResult<T>, kMaxRows> results_;
  std::array<std::size_t, kMaxRows> entries_;
  std::size_t size_ = 0, classes_ = 0, elements_ = 0, spare_step_ = 0;
  std::int64_t begin_ = 0;
  const T* x_ = nullptr;
  const T* t_ = nullptr;
  T* gradient_ = nullptr;
  T* spare_ = nullptr;
  bool streams_ = false;
};

}  // namespace softloss::cpu
