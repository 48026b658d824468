// A long row of all classes, class axis last, that a loss reads and writes tile by tile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/stream.h"

namespace softloss::cpu {

template <typename T>
class LongRow final : private RowTiles<T> {
 public:
  explicit LongRow(SegmentIo<T>& io) : io_(io) {}

  // Row `row`, with its dense labels if they are.
  ClassRow<T> Read(std::int64_t row, bool dense) {
    classes_ = static_cast<std::size_t>(io_.key().classes);
    begin_ = row * io_.key().classes;
    dense_ = dense;
    ClassRow<T> in;
    in.classes = classes_;
    in.tiles = this;
    in.raw.x = io_.RawPredictions(begin_, classes_);
    in.raw.x_size = SizeOf(io_.key().prediction);
    in.raw.t = dense ? io_.RawLabels(begin_, classes_) : nullptr;
    in.raw.t_size = SizeOf(io_.key().label.dtype);
    in.spare = io_.scratch().spare.template Get<T>(classes_);
    return in;
  }

  // The gradient is value(class), whatever it was before.
  template <typename Value>
  void Replace(Value value) {
    if (!io_.wants_gradient()) return;
    for (std::size_t begin = 0; begin < classes_; begin += kMaxWholeRow) {
      const std::size_t n = std::min(kMaxWholeRow, classes_ - begin);
      T* const values = io_.scratch().g.template Get<T>(n);
      for (std::size_t i = 0; i < n; ++i) values[i] = value(begin + i);
      FlushStream();  // what is written again comes after it
      WriteGradient(begin, n, values);
    }
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

  SegmentIo<T>& io_;
  std::size_t classes_ = 0;
  std::int64_t begin_ = 0;
  bool dense_ = false;
};

}  // namespace softloss::cpu
