#include "tests/kernels/annotation/real_data.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

namespace softloss::testing {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

// Reads well-formed JSON without escapes in its keys.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  // Moves to the value of a key of the object here.
  bool Enter(const std::string& key) {
    if (Next() != '{') return false;
    for (++at_; Next() != '}';) {
      const bool found = String() == key;
      Next();
      ++at_;  // the colon
      if (found) return true;
      Skip(nullptr);
      if (Next() == ',') ++at_;
    }
    return false;
  }

  // Moves behind the value here; its numbers go to out, unless null.
  void Skip(std::vector<double>* out) {
    const char first = Next();
    if (first == '{' || first == '[') {
      const char last = first == '{' ? '}' : ']';
      for (++at_; Next() != last;) {
        if (first == '{') {
          String();
          Next();
          ++at_;
        }
        Skip(out);
        if (Next() == ',') ++at_;
      }
      ++at_;
    } else if (first == '"') {
      String();
    } else {
      const std::size_t end = text_.find_first_of(",]} \n", at_);
      const std::string word(text_.substr(at_, end - at_));
      at_ = end;
      if (out == nullptr) return;
      out->push_back(word == "null" ? std::numeric_limits<double>::quiet_NaN()
                                    : std::strtod(word.c_str(), nullptr));
    }
  }

 private:
  char Next() {
    at_ = text_.find_first_not_of(" \n\r\t", at_);
    return text_[at_];
  }
  std::string String() {
    Next();
    const std::size_t begin = at_ + 1;
    std::size_t end = begin;
    while (text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    at_ = end + 1;
    return std::string(text_.substr(begin, end - begin));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::filesystem::path DataSet(std::string_view name) {
  const char* folder = std::getenv("SOFTLOSS_DATA");
  const std::filesystem::path path =
      (folder != nullptr ? std::filesystem::path(folder)
                         : std::filesystem::path(SOFTLOSS_SOURCE_DIR) / "../shared/data") /
      name;
  return std::filesystem::exists(path) ? path : std::filesystem::path();
}

std::vector<std::vector<std::string>> ReadCsv(const std::filesystem::path& path) {
  std::istringstream in(ReadFile(path));
  std::vector<std::vector<std::string>> rows;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::istringstream fields(line);
    std::vector<std::string>& row = rows.emplace_back();
    for (std::string field; std::getline(fields, field, ',');) row.push_back(field);
  }
  return rows;
}

std::vector<double> ReadNpy(const std::filesystem::path& path) {
  const std::string file = ReadFile(path);
  const std::size_t header = 10 + static_cast<unsigned char>(file[8]) +
                             256 * static_cast<std::size_t>(static_cast<unsigned char>(file[9]));
  const bool floats = file.find("'<f8'") < header;
  EXPECT_TRUE(floats || file.find("'<u2'") < header) << path;
  const std::size_t size = floats ? 8 : 2;
  std::vector<double> values((file.size() - header) / size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t integer;
    if (floats) {
      std::memcpy(&values[i], file.data() + header + i * size, size);
    } else {
      std::memcpy(&integer, file.data() + header + i * size, size);
      values[i] = integer;
    }
  }
  return values;
}

std::vector<double> JsonNumbers(const std::filesystem::path& path,
                                const std::vector<std::string>& keys) {
  const std::string text = ReadFile(path);
  JsonReader reader(text);
  std::vector<double> numbers;
  for (const std::string& key : keys) {
    if (!reader.Enter(key)) {
      ADD_FAILURE() << "no key " << key << " in " << path;
      return numbers;
    }
  }
  reader.Skip(&numbers);
  return numbers;
}

double JsonNumber(const std::filesystem::path& path, const std::vector<std::string>& keys) {
  const std::vector<double> numbers = JsonNumbers(path, keys);
  EXPECT_EQ(numbers.size(), 1u) << path;
  return numbers.empty() ? std::numeric_limits<double>::quiet_NaN() : numbers[0];
}

}  // namespace softloss::testing
