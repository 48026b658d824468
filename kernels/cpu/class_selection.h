// The classes of a row that exist, where a class mask says so. Kernels see only those, side by side.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/loss.h"

namespace softloss::cpu {

class ClassSelection {
 public:
  // Without a mask all `classes` exist, and Squeeze and Spread are not to be called.
  ClassSelection(const LossSpec& spec, std::size_t classes) : classes_(classes), count_(classes) {
    if (spec.class_mask.empty()) return;
    position_.assign(classes, -1);
    for (std::size_t c = 0; c < classes; ++c) {
      if (spec.class_mask[c] == 0) continue;
      position_[c] = static_cast<std::int64_t>(index_.size());
      index_.push_back(c);
    }
    count_ = index_.size();
  }

  bool all() const { return position_.empty(); }
  std::size_t classes() const { return classes_; }
  std::size_t count() const { return count_; }

  // The class that is number `i` of those that exist.
  std::size_t Index(std::size_t i) const { return all() ? i : index_[i]; }
  bool Exists(std::size_t c) const { return all() || position_[c] >= 0; }
  // Which of those that exist a class is; -1 for the others.
  std::int64_t Position(std::int64_t c) const {
    return all() ? c : position_[static_cast<std::size_t>(c)];
  }

  // `rows` rows of all classes in, of those that exist out. Both may be unaligned, and may be one.
  template <typename T>
  void Squeeze(const T* from, std::size_t rows, T* to) const {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < count_; ++i) {
        std::memcpy(Address(to, r * count_ + i), Address(from, r * classes_ + index_[i]),
                    sizeof(T));
      }
    }
  }

  // The inverse, with 0 for classes that do not exist.
  template <typename T>
  void Spread(const T* from, std::size_t rows, T* to) const {
    for (std::size_t r = rows; r-- > 0;) {
      for (std::size_t c = classes_, i = count_; c-- > 0;) {
        T value = 0;
        if (position_[c] >= 0) std::memcpy(&value, Address(from, r * count_ + --i), sizeof(T));
        std::memcpy(Address(to, r * classes_ + c), &value, sizeof(T));
      }
    }
  }

 private:
  template <typename T>
  static const std::byte* Address(const T* data, std::size_t i) {
    return reinterpret_cast<const std::byte*>(data) + i * sizeof(T);
  }
  template <typename T>
  static std::byte* Address(T* data, std::size_t i) {
    return reinterpret_cast<std::byte*>(data) + i * sizeof(T);
  }

  const std::size_t classes_;
  std::size_t count_;
  std::vector<std::size_t> index_;
  std::vector<std::int64_t> position_;
};

}  // namespace softloss::cpu
