// The labelled data sets that figures are checked on, and what other tools say of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace softloss::testing {

// $SOFTLOSS_DATA/name, or beside the repository; empty where it is absent, for tests to skip.
std::filesystem::path DataSet(std::string_view name);

// Rows of comma-separated fields, without quotes, after a header line.
std::vector<std::vector<std::string>> ReadCsv(const std::filesystem::path& path);

// The values of a .npy file of 2-byte unsigned integers or 8-byte floats, in C order.
std::vector<double> ReadNpy(const std::filesystem::path& path);

// The numbers at a path of keys in a JSON file, in the order of the text: lists within lists are
// flattened, null is NaN. Fails the test where there is no such key.
std::vector<double> JsonNumbers(const std::filesystem::path& path,
                                const std::vector<std::string>& keys);
double JsonNumber(const std::filesystem::path& path, const std::vector<std::string>& keys);

}  // namespace softloss::testing
