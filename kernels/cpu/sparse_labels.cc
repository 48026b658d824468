#include "kernels/cpu/sparse_labels.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/once.h"
#include "kernels/row_semantics.h"

namespace softloss::cpu {
namespace {

// Ids that no class has.
constexpr std::int64_t kNoClass = -1;

}  // namespace

template <typename T>
void SparseLabels<T>::Read(std::int64_t row, std::size_t n) {
  const std::size_t entries = n * k_;
  const std::size_t id_bytes = entries * SizeOf(key_.label.id_dtype);
  const std::size_t value_bytes = entries * SizeOf(key_.label.dtype);
  const std::int64_t at = row * key_.label.k;
  first_ = row;
  ids_ = scratch_.sparse_ids.Get<std::int64_t>(entries);
  values_ = scratch_.sparse_values.Get<T>(entries);
  tail_ = scratch_.sparse_tail.Get<T>(n);
  raw_ids_ = scratch_.label_ids.Read(at * static_cast<std::int64_t>(SizeOf(key_.label.id_dtype)),
                                     id_bytes, scratch_.label_id_bytes.Get<std::byte>(id_bytes));
  const std::byte* const raw =
      scratch_.label.Read(at * static_cast<std::int64_t>(SizeOf(key_.label.dtype)), value_bytes,
                          scratch_.label_bytes.Get<std::byte>(value_bytes));
  Decode(key_.label.dtype, U8::kDivideBy255, raw, entries, values_);
}

template <typename T>
absl::Status SparseLabels<T>::Check(std::size_t i) {
  std::vector<std::uint32_t>& seen = scratch_.seen;
  if (seen.size() < static_cast<std::size_t>(key_.classes)) {
    seen.resize(static_cast<std::size_t>(key_.classes), scratch_.sparse_rows);
  }
  if (++scratch_.sparse_rows == 0) {  // the numbers start again
    std::fill(seen.begin(), seen.end(), 0);
    ++scratch_.sparse_rows;
  }
  const std::uint32_t number = scratch_.sparse_rows;
  std::int64_t* const ids = ids_ + i * k_;
  T* const values = values_ + i * k_;
  double sum = 0;
  for (std::size_t j = 0; j < k_; ++j) {
    const std::int64_t id = LoadOnce(key_.label.id_dtype, raw_ids_, i * k_ + j);
    if (id < 0 || id >= key_.classes || seen[static_cast<std::size_t>(id)] == number) {
      return BadSparseId(segment_, first_ + static_cast<std::int64_t>(i), id, key_.classes);
    }
    seen[static_cast<std::size_t>(id)] = number;
    ids[j] = id;
    sum += static_cast<double>(values[j]);
  }

  tail_[i] = 0;
  const auto others = static_cast<double>(key_.classes - key_.label.k);
  if (key_.label.tail == TailRule::kUniform && others > 0) {
    tail_[i] = static_cast<T>(RestOfMass(sum) / others);
  }
  if (key_.label.tail == TailRule::kRenormalize && sum != 0) {
    for (std::size_t j = 0; j < k_; ++j) {
      values[j] = static_cast<T>(static_cast<double>(values[j]) / sum);
    }
  }
  return absl::OkStatus();
}

template <typename T>
void SparseLabels<T>::Skip(std::size_t i) {
  std::fill_n(ids_ + i * k_, k_, kNoClass);
  tail_[i] = 0;
}

template <typename T>
void SparseLabels<T>::Expand(std::int64_t begin, std::size_t n, T* to) const {
  const std::int64_t end = begin + static_cast<std::int64_t>(n);
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t row = at / key_.classes, row_begin = row * key_.classes;
    const std::int64_t row_end = std::min(end, row_begin + key_.classes);
    const auto i = static_cast<std::size_t>(row - first_);
    T* const part = to + (at - begin);
    std::fill_n(part, row_end - at, tail_[i]);
    const std::int64_t* const ids = this->ids(i);
    const T* const values = this->values(i);
    const std::int64_t first = at - row_begin;
    const auto size = static_cast<std::uint64_t>(row_end - at);
    for (std::size_t j = 0; j < k_; ++j) {
      const auto element = static_cast<std::uint64_t>(ids[j] - first);  // kNoClass is far away
      if (element < size) part[element] = values[j];
    }
    at = row_end;
  }
}

template class SparseLabels<float>;
template class SparseLabels<double>;

}  // namespace softloss::cpu
