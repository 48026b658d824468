// Votes for tests: written by hand, or drawn.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/annotation/votes.h"
#include "tests/testing/random.h"

namespace softloss::testing {

struct VoteTable {
  int classes = 2;
  std::int64_t items = 0;
  int annotators = 0;
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> annotator, label;
  std::vector<double> probabilities;  // [n, classes], or empty
  std::vector<double> weight;

  void Add(std::int64_t i, std::int32_t r, std::int32_t k) {
    items = std::max(items, i + 1);
    annotators = std::max(annotators, r + 1);
    item.push_back(i);
    annotator.push_back(r);
    label.push_back(k);
  }
  void Add(std::int64_t i, std::int32_t r, const std::vector<double>& q) {
    Add(i, r, 0);
    probabilities.insert(probabilities.end(), q.begin(), q.end());
  }
  annotation::Votes Create() const {
    const bool soft = !probabilities.empty();
    const auto votes = annotation::Votes::Create(
        {.num_classes = classes,
         .num_items = items,
         .num_annotators = annotators,
         .item = item,
         .annotator = annotator,
         .label = soft ? absl::Span<const std::int32_t>() : absl::MakeConstSpan(label),
         .probabilities = probabilities,
         .weight = weight});
    EXPECT_TRUE(votes.ok()) << votes.status();
    return votes.value_or(annotation::Votes());
  }
  // The same votes as rows of 0 and 1.
  VoteTable OneHot() const {
    VoteTable soft = *this;
    soft.probabilities.assign(label.size() * classes, 0.0);
    for (std::size_t v = 0; v < label.size(); ++v) soft.probabilities[v * classes + label[v]] = 1;
    return soft;
  }
};

// A distribution over the classes, of which some are 0.
inline std::vector<double> RandomRow(Random& random, int classes) {
  std::vector<double> row(classes);
  double sum = 0;
  do {
    sum = 0;
    for (double& q : row) sum += q = random.Chance(0.2) ? 0 : -std::log(1 - random.Uniform());
  } while (sum == 0);
  for (double& q : row) q /= sum;
  return row;
}

// From 0 to annotators votes an item; votes agree more often than by chance.
inline VoteTable RandomVotes(Random& random, int items, int annotators, int classes, bool soft) {
  VoteTable table;
  table.classes = classes;
  for (int i = 0; i < items; ++i) {
    const auto truth = static_cast<std::int32_t>(random.Int(0, classes));
    const double density = random.Uniform();
    for (int r = 0; r < annotators; ++r) {
      if (!random.Chance(density)) continue;
      if (soft) {
        std::vector<double> row = RandomRow(random, classes);
        for (double& q : row) q /= 2;
        row[truth] += 0.5;
        table.Add(i, r, row);
      } else {
        table.Add(i, r,
                  random.Chance(0.5) ? truth : static_cast<std::int32_t>(random.Int(0, classes)));
      }
    }
  }
  table.items = items;
  table.annotators = annotators;
  return table;
}

// [pixels, readers] of an object that most readers see alike; values from 0 to `scale`.
inline std::vector<std::uint8_t> RandomMasks(Random& random, std::int64_t pixels, int readers,
                                             int scale) {
  std::vector<std::uint8_t> value(pixels * readers);
  for (std::int64_t i = 0; i < pixels; ++i) {
    const bool object = random.Chance(0.3);
    for (int r = 0; r < readers; ++r) {
      value[i * readers + r] = static_cast<std::uint8_t>(
          random.Chance(0.2) ? random.Int(0, scale + 1) : (object ? scale : 0));
    }
  }
  return value;
}

}  // namespace softloss::testing
