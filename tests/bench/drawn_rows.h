// Logits and soft labels that benchmarks send.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace softloss {

struct DrawnRows {
  std::int64_t rows = 0;
  std::vector<float> logits, labels;  // [rows, classes]; each row of labels sums to 1
};

inline DrawnRows DrawRows(std::int64_t rows, std::int64_t classes) {
  DrawnRows out{rows, {}, {}};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (std::int64_t row = 0; row < rows; ++row) {
    float sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      out.logits.push_back(2 * normal(random));
      out.labels.push_back(std::exp(normal(random)));
      sum += out.labels.back();
    }
    for (auto t = out.labels.end() - classes; t != out.labels.end(); ++t) *t /= sum;
  }
  return out;
}

}  // namespace softloss
