// Arrays in .npz files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace softloss::testing {

// The bytes of an array of uint8, in C order. Fails the test where there is none of this name.
std::vector<std::uint8_t> ReadNpzBytes(const std::filesystem::path& path, const std::string& name);

}  // namespace softloss::testing
