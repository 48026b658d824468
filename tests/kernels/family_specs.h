// Losses with parameters, for tests of the whole family.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/loss.h"
#include "kernels/plan.h"
#include "tests/testing/random.h"

namespace softloss::testing {

// [rows, classes], or its transpose, so that classes come first and a chunk is a tile.
inline ItemShape FamilyItem(std::int64_t rows, std::int64_t classes, bool class_last) {
  ItemShape item;
  item.shape = class_last ? std::vector{rows, classes} : std::vector{classes, rows};
  item.class_axis = class_last ? 1 : 0;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  return item;
}

// Every loss once. Reverse KL has a floor, as every use of it with hard labels does.
inline std::vector<LossSpec> OneSpecEach() {
  std::vector<LossSpec> specs;
  for (Loss loss : AllLosses()) {
    LossSpec spec;
    spec.loss = loss;
    if (loss == Loss::kReverseKlDivergence) spec.epsilon = 1e-3f;
    specs.push_back(spec);
  }
  return specs;
}

// Every loss with several values of each of its parameters, bounds included where arithmetic allows.
inline std::vector<LossSpec> ParameterSpecs() {
  std::vector<LossSpec> specs;
  for (const LossSpec& one : OneSpecEach()) {
    for (const ParameterRule& rule : Parameters(one.loss)) {
      std::vector<float> values = {rule.fallback, rule.low, rule.high};
      const std::string name = rule.name;
      if (name == "temperature") values = {1e-3f, 0.5f, 1.0f, 1.7f, 20.0f, 1e3f};
      if (name == "z_loss") values = {0, 1e-4f, 0.3f, 1e6f};
      if (name == "gamma") values = {0, 0.5f, 1, 2, 2.5f, 16};
      if (name == "q") values = {0.01f, 0.3f, 0.7f, 1};
      if (name == "alpha") values = {0, 0.1f, 1, 1e6f};
      if (name == "beta" && one.loss == Loss::kQualityFocal) values = {1, 1.5f, 2, 16};
      if (name == "beta" && one.loss == Loss::kJensenShannonDivergence) {
        values = {0, 0.01f, 0.3f, 0.5f, 0.99f, 1};
      }
      if (name == "epsilon") values.push_back(0.5f);
      for (float value : values) {
        LossSpec spec = one;
        spec.*rule.member = value;
        specs.push_back(spec);
      }
    }
  }
  return specs;
}

inline bool TakesTemperature(Loss loss) { return !IsElementwise(loss) && !IsRegional(loss); }

inline std::vector<float> RandomWeights(std::int64_t classes, Random& random) {
  std::vector<float> weights;
  for (std::int64_t c = 0; c < classes; ++c) {
    weights.push_back(c % 5 ? static_cast<float>(2 * random.Uniform()) : 0);
  }
  return weights;
}

// At least one class exists.
inline std::vector<std::uint8_t> RandomMask(std::int64_t classes, Random& random) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(classes));
  for (std::uint8_t& exists : mask) exists = random.Chance(0.7) ? 1 : 0;
  mask[static_cast<std::size_t>(random.Int(0, classes))] = 1;
  return mask;
}

inline std::string DescribeParameters(const LossSpec& spec) {
  std::string text;
  for (const ParameterRule& rule : Parameters(spec.loss)) {
    absl::StrAppend(&text, rule.name, " ", (spec.*rule.member).value_or(rule.fallback), "; ");
  }
  if (!spec.class_mask.empty()) absl::StrAppend(&text, "class_mask; ");
  if (spec.prediction_kind == PredictionKind::kProbabilities) text += "probabilities; ";
  return text;
}

}  // namespace softloss::testing
