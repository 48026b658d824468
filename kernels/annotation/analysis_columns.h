// An analysis as a list of named arrays: what travels on the wire, and what Python sees. docs/quality.md
// lists the names.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernels/annotation/analysis.h"

namespace softloss::annotation {

struct Column {
  std::string name;  // "annotator.quality"
  std::vector<std::int64_t> shape;
  std::variant<std::vector<double>, std::vector<std::int64_t>> values;  // row-major
};

// R annotators, I items, K classes. A figure is [4]: value, low, high, n. Enumerations are their
// numbers.
std::vector<Column> ToColumns(const Analysis& analysis);

}  // namespace softloss::annotation
