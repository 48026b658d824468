#include "tests/testing/bytes.h"

#include <algorithm>
#include <cstring>

#include "kernels/half.h"

namespace softloss::testing {
namespace {

constexpr std::size_t kGuard = 128;

template <typename T>
void Append(T value, Bytes* to) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to->insert(to->end(), bytes, bytes + sizeof(T));
}

template <typename T>
T At(absl::Span<const std::byte> bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

Bytes Encode(DType dtype, absl::Span<const double> values) {
  Bytes bytes;
  bytes.reserve(values.size() * SizeOf(dtype));
  for (double v : values) {
    switch (dtype) {
      case DType::kF32: Append(static_cast<float>(v), &bytes); break;
      case DType::kF16: Append(ToF16(v), &bytes); break;
      case DType::kBF16: Append(ToBF16(v), &bytes); break;
      case DType::kF64: Append(v, &bytes); break;
      case DType::kU8: Append(static_cast<std::uint8_t>(v), &bytes); break;
      case DType::kI32: Append(static_cast<std::int32_t>(v), &bytes); break;
      case DType::kI64: Append(static_cast<std::int64_t>(v), &bytes); break;
    }
  }
  return bytes;
}

std::vector<double> Decode(DType dtype, absl::Span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / SizeOf(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (dtype) {
      case DType::kF32: values[i] = At<float>(bytes, i); break;
      case DType::kF16: values[i] = F16ToFloat(At<std::uint16_t>(bytes, i)); break;
      case DType::kBF16: values[i] = BF16ToFloat(At<std::uint16_t>(bytes, i)); break;
      case DType::kF64: values[i] = At<double>(bytes, i); break;
      case DType::kU8: values[i] = At<std::uint8_t>(bytes, i); break;
      case DType::kI32: values[i] = At<std::int32_t>(bytes, i); break;
      case DType::kI64: values[i] = static_cast<double>(At<std::int64_t>(bytes, i)); break;
    }
  }
  return values;
}

PoisonedBuffer::PoisonedBuffer(std::size_t size, const Pieces& pieces) : poison_(pieces.poison) {
  Random random(pieces.seed);
  for (std::size_t done = 0; done < size;) {
    std::size_t n = size - done;
    if (pieces.max_size > 0) {
      n = std::min(n, static_cast<std::size_t>(
                          random.Int(1, static_cast<std::int64_t>(pieces.max_size) + 1)));
    }
    Block block{Bytes(n + 2 * kGuard + 64, std::byte{poison_}), 0, n};
    const auto address = reinterpret_cast<std::uintptr_t>(block.memory.data() + kGuard);
    block.begin = kGuard + (64 - address % 64) % 64 + pieces.misalign % 64;
    blocks_.push_back(std::move(block));
    done += n;
  }
  for (Block& block : blocks_) {
    fragments_.push_back({block.memory.data() + block.begin, block.size});
    const_fragments_.push_back({block.memory.data() + block.begin, block.size});
  }
}

PoisonedBuffer::PoisonedBuffer(absl::Span<const std::byte> contents, const Pieces& pieces)
    : PoisonedBuffer(contents.size(), pieces) {
  for (const MutableFragment& f : fragments_) {
    std::memcpy(f.data, contents.data(), f.size);
    contents.remove_prefix(f.size);
  }
}

Bytes PoisonedBuffer::Gathered() const {
  Bytes bytes;
  for (const Fragment& f : const_fragments_) bytes.insert(bytes.end(), f.data, f.data + f.size);
  return bytes;
}

bool PoisonedBuffer::PoisonIsIntact() const {
  for (const Block& block : blocks_) {
    for (std::size_t i = 0; i < block.memory.size(); ++i) {
      const bool inside = i >= block.begin && i < block.begin + block.size;
      if (!inside && block.memory[i] != std::byte{poison_}) return false;
    }
  }
  return true;
}

}  // namespace softloss::testing
