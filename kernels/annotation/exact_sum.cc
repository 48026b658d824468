#include "kernels/annotation/exact_sum.h"

namespace softloss::annotation {

std::array<char, ExactSum::kBytes> ExactSum::ToBytes() const {
  std::array<char, kBytes> bytes;
  for (int i = 0; i < kBytes; ++i) bytes[i] = static_cast<char>(units_ >> (8 * i) & 0xFF);
  return bytes;
}

ExactSum ExactSum::FromBytes(const std::array<char, kBytes>& bytes) {
  __extension__ typedef unsigned __int128 Unsigned;
  Unsigned units = 0;
  for (int i = 0; i < kBytes; ++i) {
    units |= static_cast<Unsigned>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  ExactSum sum;
  sum.units_ = static_cast<Int128>(units);
  return sum;
}

}  // namespace softloss::annotation
