#include "tests/bench/bench_report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace softloss {
namespace {

// `values` is sorted by the call.
double Quantile(std::vector<double>& values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const auto high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

std::string Field(std::string_view name, const std::optional<double>& value) {
  return value ? absl::StrCat(", ", Quoted(name), ": ", *value) : "";
}

std::string ToJson(const BenchRow& row) {
  return absl::StrCat(
      "{\"case\": ", Quoted(row.name), ", \"value\": ", row.value, ", \"unit\": ", Quoted(row.unit),
      ", \"baseline\": ", row.baseline, ", \"ratio\": ", row.ratio, ", \"spread\": ", row.spread,
      Field("at_least", row.at_least), Field("at_most", row.at_most), Field("aim", row.aim),
      Field("loss_error", row.loss_error), Field("gradient_error", row.gradient_error), "}");
}

// The processor and how many of its cores there are.
std::string Host() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string model = "unknown processor";
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
  return absl::StrCat(model, ", ", std::thread::hardware_concurrency(), " cores");
}

bool Misses(const BenchRow& row) {
  return (row.at_least && row.ratio < *row.at_least) || (row.at_most && row.ratio > *row.at_most);
}

}  // namespace

BenchRow MeasurePairs(std::string name, std::string unit, const std::function<double()>& ours,
                      const std::function<double()>& baseline, int pairs) {
  ours();
  baseline();
  std::vector<double> values, baselines, ratios;
  for (int i = 0; i < pairs; ++i) {
    values.push_back(ours());
    baselines.push_back(baseline());
    ratios.push_back(values.back() / baselines.back());
  }
  BenchRow row{.name = std::move(name), .unit = std::move(unit)};
  row.value = Quantile(values, 0.5);
  row.baseline = Quantile(baselines, 0.5);
  row.ratio = Quantile(ratios, 0.5);
  row.spread = Quantile(ratios, 0.75) - Quantile(ratios, 0.25);
  return row;
}

void BenchReport::Add(BenchRow row) {
  if (rows_.empty()) {
    std::printf("%-36s %10s %10s  %-12s %6s %6s %9s %5s\n", name_.c_str(), "value", "baseline",
                "unit", "ratio", "spread", "bar", "aim");
  }
  std::string bar = row.at_least  ? absl::StrCat(">= ", *row.at_least)
                    : row.at_most ? absl::StrCat("<= ", *row.at_most)
                                  : "";
  std::printf("%-36s %10.4g %10.4g  %-12s %6.3f %6.3f %9s %5s%s\n", row.name.c_str(), row.value,
              row.baseline, row.unit.c_str(), row.ratio, row.spread, bar.c_str(),
              row.aim ? absl::StrCat(*row.aim).c_str() : "", Misses(row) ? "  missed" : "");
  if (row.loss_error && row.gradient_error) {
    std::printf("%-36s worst errors: loss %.1e, gradient %.1e\n", "", *row.loss_error,
                *row.gradient_error);
  }
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

bool BenchReport::Write(const std::string& path) const {
  const std::string date = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  std::ofstream out(path);
  out << "{\"name\": " << Quoted(name_) << ", \"host\": " << Quoted(Host()) << ", \"date\": \""
      << date << "\", \"rows\": [\n  "
      << absl::StrJoin(rows_, ",\n  ",
                       [](std::string* s, const BenchRow& row) { s->append(ToJson(row)); })
      << "\n]}\n";
  out.close();

  const auto missed = std::count_if(rows_.begin(), rows_.end(), Misses);
  std::printf("%zu cases, %ld below their bar; written to %s\n", rows_.size(),
              static_cast<long>(missed), path.c_str());
  return out.good();
}

}  // namespace softloss
