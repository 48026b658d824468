#include "kernels/cpu/segment_io.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/once.h"
#include "kernels/cpu/row_arrays.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

constexpr std::size_t kMaxLeafRows = 256;
template <typename T>
constexpr std::array<T, kMaxLeafRows> kOnes = [] {
  std::array<T, kMaxLeafRows> ones{};
  ones.fill(T(1));
  return ones;
}();

template <typename V>
V Load(const std::byte* from, std::size_t i) {
  V value;
  std::memcpy(&value, from + i * sizeof(V), sizeof(V));
  return value;
}

template <typename T>
const T* ReadDecoded(Source& source, DType dtype, U8 u8, std::int64_t begin, std::size_t n,
                     Buffer& bytes, T* to) {
  const std::size_t size = SizeOf(dtype);
  const std::int64_t at = begin * static_cast<std::int64_t>(size);
  if (dtype == kNative<T>) {
    return reinterpret_cast<const T*>(source.Read(at, n * size, reinterpret_cast<std::byte*>(to)));
  }
  const std::byte* raw = source.InPlace(at, n * size);
  if (raw == nullptr) raw = source.Read(at, n * size, bytes.Get<std::byte>(n * size));
  Decode(dtype, u8, raw, n, to);
  return to;
}

template <typename T>
void ReadStrided(Source& source, DType dtype, U8 u8, std::int64_t begin, std::int64_t stride,
                 std::size_t n, Buffer& bytes, T* to) {
  const std::size_t size = SizeOf(dtype);
  std::byte* raw = bytes.Get<std::byte>(n * size);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t element = begin + static_cast<std::int64_t>(i) * stride;
    std::byte one[8];
    std::memcpy(raw + i * size, source.Read(element * static_cast<std::int64_t>(size), size, one),
                size);
  }
  Decode(dtype, u8, raw, n, to);
}

}  // namespace

template <typename T>
SegmentIo<T>::SegmentIo(const ScoreKey& key, const Segment& segment, Scratch& scratch)
    : key_(key),
      segment_(segment),
      scratch_(scratch),
      prediction_size_(static_cast<std::int64_t>(SizeOf(key.prediction))),
      label_size_(static_cast<std::int64_t>(SizeOf(key.label.dtype))),
      gradient_size_(key.gradient ? static_cast<std::int64_t>(SizeOf(*key.gradient)) : 0),
      u8_(key.label.scale == LabelScale::kRowSum ? U8::kCount : U8::kDivideBy255),
      sparse_(key, segment, scratch) {
  scratch.prediction.Reset(segment.prediction);
  scratch.label.Reset(segment.label);
  scratch.label_ids.Reset(segment.label_ids);
  scratch.mask.Reset(segment.mask);
  scratch.row_weight.Reset(segment.row_weight);
  scratch.gradient.Reset(segment.gradient);
  scratch.row_loss.Reset(segment.row_loss);
}

template <typename T>
absl::Status SegmentIo<T>::ReadRows(std::int64_t row, std::size_t n, T* weight, std::int64_t* ids) {
  const std::size_t padded = (n + kRowQuantum - 1) / kRowQuantum * kRowQuantum;
  std::memcpy(weight, kOnes<T>.data(), n * sizeof(T));
  std::fill(weight + n, weight + padded, T(-1));
  const bool has_ids = key_.label.kind == LabelKind::kClassId;
  if (sparse()) {
    sparse_.Read(row, n);
  } else if (scratch_.mask.empty() && scratch_.row_weight.empty() && !has_ids) {
    return absl::OkStatus();
  }

  std::byte mask_bytes[kMaxLeafRows], weight_bytes[kMaxLeafRows * sizeof(float)];
  const std::byte* mask = scratch_.mask.empty() ? nullptr : scratch_.mask.Read(row, n, mask_bytes);
  const std::byte* weights =
      scratch_.row_weight.empty()
          ? nullptr
          : scratch_.row_weight.Read(row * static_cast<std::int64_t>(sizeof(float)),
                                     n * sizeof(float), weight_bytes);
  const std::byte* labels = nullptr;
  if (has_ids) {
    const std::size_t bytes = n * static_cast<std::size_t>(label_size_);
    labels =
        scratch_.label.Read(row * label_size_, bytes, scratch_.label_bytes.Get<std::byte>(bytes));
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (has_ids) ids[i] = -1;
    if (mask != nullptr && mask[i] == std::byte{0}) {
      weight[i] = -1;
      if (sparse()) sparse_.Skip(i);
      continue;
    }
    if (weights != nullptr) {
      const float w = Load<float>(weights, i);
      if (!IsRowWeight(w)) {
        return BadRowWeight(segment_, row + static_cast<std::int64_t>(i), w);
      }
      weight[i] = w;
    }
    if (sparse()) {
      if (absl::Status status = sparse_.Check(i); !status.ok()) return status;
    }
    if (!has_ids) continue;
    const std::int64_t id = LoadOnce(key_.label.dtype, labels, i);
    if (segment_.spec->ignore_index == id) {
      weight[i] = -1;
    } else if (id < 0 || id >= key_.classes) {
      return BadClassId(segment_, row + static_cast<std::int64_t>(i), id, key_.classes);
    } else {
      ids[i] = id;
    }
  }
  return absl::OkStatus();
}

template <typename T>
const T* SegmentIo<T>::Predictions(std::int64_t begin, std::size_t n, T* to) {
  return ReadDecoded(scratch_.prediction, key_.prediction, U8::kCount, begin, n,
                     scratch_.prediction_bytes, to);
}

template <typename T>
const T* SegmentIo<T>::Labels(std::int64_t begin, std::size_t n, T* to) {
  if (sparse()) {
    sparse_.Expand(begin, n, to);
    return to;
  }
  return ReadDecoded(scratch_.label, key_.label.dtype, u8_, begin, n, scratch_.label_bytes, to);
}

template <typename T>
const std::byte* SegmentIo<T>::RawPredictions(std::int64_t begin, std::size_t n) {
  return scratch_.prediction.InPlace(begin * prediction_size_,
                                     n * static_cast<std::size_t>(prediction_size_));
}

template <typename T>
const std::byte* SegmentIo<T>::RawLabels(std::int64_t begin, std::size_t n) {
  if (sparse()) return nullptr;
  return scratch_.label.InPlace(begin * label_size_, n * static_cast<std::size_t>(label_size_));
}

template <typename T>
void SegmentIo<T>::StridedPredictions(std::int64_t begin, std::int64_t stride, std::size_t n,
                                      T* to) {
  ReadStrided(scratch_.prediction, key_.prediction, U8::kCount, begin, stride, n,
              scratch_.prediction_bytes, to);
}

template <typename T>
void SegmentIo<T>::StridedLabels(std::int64_t begin, std::int64_t stride, std::size_t n, T* to) {
  if (sparse()) return sparse_.Expand(key_.class_last ? begin : begin * key_.classes, n, to);
  ReadStrided(scratch_.label, key_.label.dtype, u8_, begin, stride, n, scratch_.label_bytes, to);
}

template <typename T>
T* SegmentIo<T>::GradientPlace(std::int64_t begin, std::size_t n, T* scratch) {
  if (key_.gradient != kNative<T>) return scratch;
  std::byte* place = scratch_.gradient.InPlace(begin * gradient_size_, n * sizeof(T));
  if (scratch_.gradient.streams && IsStreamable(place)) return scratch;
  return place != nullptr ? reinterpret_cast<T*>(place) : scratch;
}

template <typename T>
T* SegmentIo<T>::StreamedGradientPlace(std::int64_t begin, std::size_t n) {
  if (key_.gradient != kNative<T> || !scratch_.gradient.streams) return nullptr;
  std::byte* place = scratch_.gradient.InPlace(begin * gradient_size_, n * sizeof(T));
  return IsStreamable(place) ? reinterpret_cast<T*>(place) : nullptr;
}

template <typename T>
void SegmentIo<T>::WriteGradient(std::int64_t begin, std::size_t n, const T* from) {
  const std::size_t bytes = n * static_cast<std::size_t>(gradient_size_);
  std::byte* place = scratch_.gradient.InPlace(begin * gradient_size_, bytes);
  if (key_.gradient == kNative<T>) {
    if (place == reinterpret_cast<const std::byte*>(from)) return;
    scratch_.gradient.Write(begin * gradient_size_, from, bytes);
  } else if (place != nullptr && !scratch_.gradient.streams) {
    Encode(from, n, *key_.gradient, place);
  } else {
    std::byte* encoded = scratch_.output_bytes.Get<std::byte>(bytes);
    Encode(from, n, *key_.gradient, encoded);
    scratch_.gradient.Write(begin * gradient_size_, encoded, bytes);
  }
}

template <typename T>
void SegmentIo<T>::WriteStridedGradient(std::int64_t begin, std::int64_t stride, std::size_t n,
                                        const T* from) {
  const auto size = static_cast<std::size_t>(gradient_size_);
  std::byte* encoded = scratch_.output_bytes.Get<std::byte>(n * size);
  Encode(from, n, *key_.gradient, encoded);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t element = begin + static_cast<std::int64_t>(i) * stride;
    scratch_.gradient.Write(element * gradient_size_, encoded + i * size, size);
  }
}

template <typename T>
T* SegmentIo<T>::RowLossPlace(std::int64_t begin, std::size_t n, T* scratch) {
  std::byte* place =
      scratch_.row_loss.InPlace(begin * static_cast<std::int64_t>(sizeof(T)), n * sizeof(T));
  return place != nullptr ? reinterpret_cast<T*>(place) : scratch;
}

template <typename T>
void SegmentIo<T>::WriteRowLoss(std::int64_t begin, std::size_t n, const T* from) {
  const std::int64_t at = begin * static_cast<std::int64_t>(sizeof(T));
  if (scratch_.row_loss.InPlace(at, n * sizeof(T)) == reinterpret_cast<const std::byte*>(from)) {
    return;
  }
  scratch_.row_loss.Write(at, from, n * sizeof(T));
}

template class SegmentIo<float>;
template class SegmentIo<double>;

}  // namespace softloss::cpu
