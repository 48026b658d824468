#include "kernels/annotation/votes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace softloss::annotation {
namespace {

absl::Status CheckLength(const char* column, std::size_t length, std::size_t rows) {
  if (length == rows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(column, ": must have a value a vote (", rows, "); has ", length));
}

absl::Status CheckShapes(const VoteColumns& c) {
  if (c.num_classes < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_classes: must be at least 2; was ", c.num_classes));
  }
  if (c.num_items < 0 || c.num_annotators < 0) {
    return absl::InvalidArgumentError("num_items, num_annotators: must not be negative");
  }
  const std::size_t n = c.item.size();
  if (n > std::numeric_limits<std::uint32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("votes: at most 4294967295 in one analysis; were ", n));
  }
  if (auto s = CheckLength("annotator", c.annotator.size(), n); !s.ok()) return s;
  if (c.label.empty() == c.probabilities.empty() && n > 0) {
    return absl::InvalidArgumentError("votes: give either labels or probabilities");
  }
  if (!c.label.empty()) {
    if (auto s = CheckLength("label", c.label.size(), n); !s.ok()) return s;
  }
  if (!c.probabilities.empty()) {
    if (c.probabilities.size() / c.num_classes != n || c.probabilities.size() % c.num_classes) {
      return absl::InvalidArgumentError(absl::StrCat("probabilities: must have ", c.num_classes,
                                                     " values a vote (", n, " votes); has ",
                                                     c.probabilities.size()));
    }
  }
  if (!c.weight.empty()) {
    if (auto s = CheckLength("weight", c.weight.size(), n); !s.ok()) return s;
  }
  if (!c.time.empty()) {
    if (auto s = CheckLength("time", c.time.size(), n); !s.ok()) return s;
  }
  return absl::OkStatus();
}

template <typename T, typename Max>
absl::Status CheckRange(const char* column, std::size_t row, T value, Max end) {
  if (value >= 0 && value < end) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(column, "[", row, "]: must be from 0 to ", end - 1, "; was ", value));
}

absl::Status CheckRow(const VoteColumns& c, std::size_t row) {
  if (auto s = CheckRange("item", row, c.item[row], c.num_items); !s.ok()) return s;
  if (auto s = CheckRange("annotator", row, c.annotator[row], c.num_annotators); !s.ok()) return s;
  if (!c.label.empty()) {
    if (auto s = CheckRange("label", row, c.label[row], c.num_classes); !s.ok()) return s;
  } else {
    double sum = 0;
    for (int k = 0; k < c.num_classes; ++k) {
      const double q = c.probabilities[row * c.num_classes + k];
      if (!(q >= 0) || std::isinf(q)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "probabilities[", row, "][", k, "]: must be finite and not negative; was ", q));
      }
      sum += q;
    }
    if (std::abs(sum - 1) > kProbabilityTolerance) {
      return absl::InvalidArgumentError(absl::StrCat("probabilities[", row,
                                                     "]: must sum to 1 within ",
                                                     kProbabilityTolerance, "; sum to ", sum));
    }
  }
  if (!c.weight.empty() && !(c.weight[row] > 0 && std::isfinite(c.weight[row]))) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight[", row, "]: must be positive and finite; was ", c.weight[row]));
  }
  if (!c.time.empty() && !std::isfinite(c.time[row])) {
    return absl::InvalidArgumentError(
        absl::StrCat("time[", row, "]: must be finite; was ", c.time[row]));
  }
  return absl::OkStatus();
}

// Positions of the rows in canonical order; empty where they are in it already.
std::vector<std::int64_t> CanonicalOrder(const VoteColumns& c,
                                         const std::vector<std::int64_t>& begin) {
  const auto n = static_cast<std::int64_t>(c.item.size());
  const auto before = [&c](std::int64_t a, std::int64_t b) {
    return c.item[a] != c.item[b] ? c.item[a] < c.item[b] : c.annotator[a] < c.annotator[b];
  };
  bool sorted = true;
  for (std::int64_t v = 1; v < n && sorted; ++v) sorted = !before(v, v - 1);
  if (sorted) return {};
  std::vector<std::int64_t> order(n), next(begin.begin(), begin.end() - 1);
  for (std::int64_t v = 0; v < n; ++v) order[next[c.item[v]]++] = v;
  for (std::size_t i = 0; i + 1 < begin.size(); ++i) {
    std::sort(order.begin() + begin[i], order.begin() + begin[i + 1],
              [&](std::int64_t a, std::int64_t b) {
                return c.annotator[a] != c.annotator[b] ? c.annotator[a] < c.annotator[b] : a < b;
              });
  }
  return order;
}

template <typename T>
std::vector<T> Gather(absl::Span<const T> column, const std::vector<std::int64_t>& order) {
  if (order.empty() || column.empty()) return {column.begin(), column.end()};
  std::vector<T> out(column.size());
  for (std::size_t v = 0; v < out.size(); ++v) out[v] = column[order[v]];
  return out;
}

}  // namespace

absl::StatusOr<Votes> Votes::Create(const VoteColumns& c) {
  if (auto s = CheckShapes(c); !s.ok()) return s;
  const std::size_t n = c.item.size();
  const int k_end = c.num_classes;
  Votes out;
  out.num_classes_ = k_end;
  out.num_annotators_ = c.num_annotators;
  out.begin_.assign(c.num_items + 1, 0);
  for (std::size_t v = 0; v < n; ++v) {
    if (auto s = CheckRow(c, v); !s.ok()) return s;
    ++out.begin_[c.item[v] + 1];
  }
  std::partial_sum(out.begin_.begin(), out.begin_.end(), out.begin_.begin());

  out.row_ = CanonicalOrder(c, out.begin_);
  out.annotator_ = Gather(c.annotator, out.row_);
  for (std::int64_t i = 0; i < c.num_items; ++i) {
    for (std::int64_t v = out.begin_[i] + 1; v < out.begin_[i + 1]; ++v) {
      if (out.annotator_[v] == out.annotator_[v - 1]) {
        return absl::InvalidArgumentError(
            absl::StrCat("votes: an annotator votes once on an item; annotator ", out.annotator_[v],
                         " votes on item ", i, " in rows ", out.row(v - 1), " and ", out.row(v)));
      }
    }
  }
  out.label_ = Gather(c.label, out.row_);
  out.weight_ = Gather(c.weight, out.row_);
  out.time_ = Gather(c.time, out.row_);
  if (!c.probabilities.empty()) {
    out.probability_.resize(c.probabilities.size());
    out.label_.resize(n);
    for (std::size_t v = 0; v < n; ++v) {
      const auto from = c.probabilities.subspan(out.row(v) * k_end, k_end);
      const auto to = out.probability_.begin() + static_cast<std::ptrdiff_t>(v * k_end);
      const double sum = std::accumulate(from.begin(), from.end(), 0.0);
      std::transform(from.begin(), from.end(), to, [sum](double q) { return q / sum; });
      out.label_[v] = static_cast<std::int32_t>(std::max_element(to, to + k_end) - to);
    }
  }
  return out;
}

AnnotatorIndex::AnnotatorIndex(const Votes& votes)
    : begin_(votes.num_annotators() + 1, 0), vote_(votes.size()) {
  for (std::int64_t v = 0; v < votes.size(); ++v) ++begin_[votes.annotator(v) + 1];
  std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
  std::vector<std::int64_t> next(begin_.begin(), begin_.end() - 1);
  for (std::int64_t v = 0; v < votes.size(); ++v) {
    vote_[next[votes.annotator(v)]++] = static_cast<std::uint32_t>(v);
  }
}

}  // namespace softloss::annotation
