// How a benchmark measures against a baseline, and what it writes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace softloss {

// One measured case. `value` and `baseline` are medians; `ratio` is the median of the pairs' ratios
// value / baseline, and `spread` the interquartile range of those.
struct BenchRow {
  std::string name;
  std::string unit;
  double value = 0;
  double baseline = 0;
  double ratio = 0;
  double spread = 0;
  // The bar for `ratio`, one of the two, and what would be better still.
  std::optional<double> at_least;
  std::optional<double> at_most;
  std::optional<double> aim;
  // The worst errors seen beside the speed, relative to the scales of the error bounds.
  std::optional<double> loss_error;
  std::optional<double> gradient_error;
};

inline constexpr int kBenchPairs = 9;

// Measures in turns, A B A B …, so that a slow spell of the machine meets both; once each first, to
// warm up. Both callbacks return a measurement in the unit of the row.
BenchRow MeasurePairs(std::string name, std::string unit, const std::function<double()>& ours,
                      const std::function<double()>& baseline, int pairs = kBenchPairs);

class BenchReport {
 public:
  explicit BenchReport(std::string name) : name_(std::move(name)) {}

  // Adds the row and prints its line of the table.
  void Add(BenchRow row);

  // Writes {"name", "host", "date", "rows": [{"case", "value", …}]} to `path`, and prints the rows
  // that miss their bar. False if the file cannot be written.
  bool Write(const std::string& path) const;

 private:
  std::string name_;
  std::vector<BenchRow> rows_;
};

}  // namespace softloss
