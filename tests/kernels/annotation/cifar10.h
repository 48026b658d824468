// The test set of CIFAR-10 with a real model's predictions, for fixtures to derive from.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/types/span.h"
#include "tests/kernels/annotation/real_data.h"

namespace softloss::testing {

class Cifar10Test : public ::testing::Test {
 protected:
  static constexpr int kClasses = 10;

  void SetUp() override {
    const std::filesystem::path folder = DataSet("label-errors-cifar10");
    if (folder.empty()) GTEST_SKIP() << "no data set label-errors-cifar10; set SOFTLOSS_DATA";
    expected_ = folder / "expected.json";
    p_ = ReadNpy(folder / "cifar10_test_set_pyx.npy");
    for (const double y : ReadNpy(folder / "cifar10_test_set_original_labels.npy")) {
      label_.push_back(static_cast<std::int32_t>(y));
    }
    ASSERT_EQ(p_.size(), label_.size() * kClasses);
    // As the expected values have it, rows are made to sum to 1 first.
    for (auto row = p_.begin(); row != p_.end(); row += kClasses) {
      const double sum = std::accumulate(row, row + kClasses, 0.0);
      std::transform(row, row + kClasses, row, [sum](double p) { return p / sum; });
    }
  }
  absl::Span<const double> row(std::size_t i) const {
    return absl::MakeConstSpan(p_).subspan(i * kClasses, kClasses);
  }

  std::filesystem::path expected_;
  std::vector<double> p_;            // [10,000, 10]
  std::vector<std::int32_t> label_;  // [10,000]
};

}  // namespace softloss::testing
