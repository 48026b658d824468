// What the tests of aggregation vote on, and how they compare.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/kernels/annotation/real_data.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/random.h"

namespace softloss::testing {

// The same rows in another order.
inline VoteTable Shuffled(VoteTable out, std::uint64_t seed) {
  Random random(seed);
  for (std::size_t v = out.item.size(); v > 1; --v) {
    const auto a = v - 1, b = static_cast<std::size_t>(random.Int(0, v));
    std::swap(out.item[a], out.item[b]);
    std::swap(out.annotator[a], out.annotator[b]);
    std::swap(out.label[a], out.label[b]);
    if (!out.weight.empty()) std::swap(out.weight[a], out.weight[b]);
    for (int k = 0; k < out.classes && !out.probabilities.empty(); ++k) {
      std::swap(out.probabilities[a * out.classes + k], out.probabilities[b * out.classes + k]);
    }
  }
  return out;
}

// Each annotator votes on an item with probability 0.6, and is right by an accuracy of their own. Item
// 1 has no votes, and the last annotator none.
inline VoteTable RandomTable(std::uint64_t seed, int items, int annotators, int classes,
                             bool soft = false, bool weights = false) {
  Random random(seed);
  VoteTable t = {.classes = classes, .items = items, .annotators = annotators};
  for (int i = 0; i < items; ++i) {
    const int truth = static_cast<int>(random.Int(0, classes));
    for (int r = 0; r + 1 < annotators; ++r) {
      if (i == 1 || !random.Chance(0.6)) continue;
      const bool right = random.Chance(0.45 + 0.5 * r / annotators);
      t.Add(i, r, right ? truth : static_cast<int>(random.Int(0, classes)));
      if (weights) t.weight.push_back(0.25 + 2 * random.Uniform());
      if (!soft) continue;
      std::vector<double> q(classes);
      double sum = 0;
      for (int k = 0; k < classes; ++k) {
        q[k] = random.Chance(0.3) ? 0 : random.Uniform();
        if (k == t.label.back()) q[k] += 2;
        sum += q[k];
      }
      for (const double x : q) t.probabilities.push_back(x / sum);
    }
  }
  return t;
}

// 39 people on 108 photographs, in the order of expected.json.
inline VoteTable Bluebirds(const std::filesystem::path& folder) {
  std::map<double, int> task, worker;
  for (const double t : JsonNumbers(folder / "expected.json", {"tasks"}))
    task.emplace(t, task.size());
  for (const double w : JsonNumbers(folder / "expected.json", {"workers"})) {
    worker.emplace(w, worker.size());
  }
  VoteTable out = {.items = static_cast<std::int64_t>(task.size()),
                   .annotators = static_cast<int>(worker.size())};
  for (const auto& row : ReadCsv(folder / "labels.csv")) {
    out.Add(task.at(std::stod(row[0])), worker.at(std::stod(row[1])), std::stoi(row[2]));
  }
  return out;
}

// The probabilities of class 1 of [items, 2].
inline std::vector<double> SecondClass(const std::vector<double>& posterior) {
  std::vector<double> out;
  for (std::size_t i = 1; i < posterior.size(); i += 2) out.push_back(posterior[i]);
  return out;
}

inline void ExpectAllNear(const std::vector<double>& actual, const std::vector<double>& expected,
                          double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
  }
}

// NaN equals NaN; all else to the bit.
inline void ExpectSameBits(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]))
        << a[i] << " and " << b[i] << " at " << i;
  }
}

}  // namespace softloss::testing
