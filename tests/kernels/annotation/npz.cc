#include "tests/kernels/annotation/npz.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <iterator>
#include <string>

namespace softloss::testing {
namespace {

std::uint32_t Number(const std::string& bytes, std::size_t at, int size) {
  std::uint32_t value = 0;
  for (int i = size - 1; i >= 0; --i) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)]);
  }
  return value;
}

std::string Inflate(std::string bytes, std::size_t size) {
  std::string out(size, '\0');
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflateInit2(&stream, -MAX_WBITS), Z_OK);
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  inflateEnd(&stream);
  return out;
}

}  // namespace

std::vector<std::uint8_t> ReadNpzBytes(const std::filesystem::path& path, const std::string& name) {
  std::ifstream in(path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  // The end record is at the very end, as there is no comment; it says where the directory is.
  const std::size_t end = file.size() - 22;
  std::size_t entry = Number(file, end + 16, 4);
  for (std::uint32_t i = 0; i < Number(file, end + 10, 2); ++i) {
    const std::uint32_t name_size = Number(file, entry + 28, 2);
    if (file.substr(entry + 46, name_size) == name + ".npy") {
      const std::size_t local = Number(file, entry + 42, 4);
      const std::size_t data =
          local + 30 + Number(file, local + 26, 2) + Number(file, local + 28, 2);
      std::string array = file.substr(data, Number(file, entry + 20, 4));
      if (Number(file, entry + 10, 2) == 8) array = Inflate(array, Number(file, entry + 24, 4));
      EXPECT_NE(array.find("'|u1'"), std::string::npos) << path << " " << name;
      return {array.begin() + 10 + static_cast<std::ptrdiff_t>(Number(array, 8, 2)), array.end()};
    }
    entry += 46 + name_size + Number(file, entry + 30, 2) + Number(file, entry + 32, 2);
  }
  ADD_FAILURE() << "no array " << name << " in " << path;
  return {};
}

}  // namespace softloss::testing
