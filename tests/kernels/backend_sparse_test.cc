// Sparse labels on every backend that serves them: against the long double oracle, against the dense
// labels that they stand for, bucketed against formulas and central differences, and bad ones.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference_sparse.h"
#include "tests/kernels/backend_param.h"
#include "tests/kernels/family_specs.h"
#include "tests/testing/score_case.h"
#include "tests/testing/score_expectation.h"

namespace softloss::testing {
namespace {

constexpr TailRule kTails[] = {TailRule::kRenormalize, TailRule::kUniform, TailRule::kBucket,
                               TailRule::kZero};

LabelFormat Sparse(std::int64_t k, TailRule tail, DType values = DType::kF32,
                   DType ids = DType::kI64) {
  return {.kind = LabelKind::kSparse,
          .dtype = values,
          .k = static_cast<std::int32_t>(k),
          .id_dtype = ids,
          .tail = tail};
}

bool Applies(const LossSpec& spec, TailRule tail) {
  if (IsRegional(spec.loss)) return false;
  return !IsElementwise(spec.loss) || tail == TailRule::kZero;
}

class BackendSparseTest : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    ItemShape item = FamilyItem(1, 4, true);
    item.label = Sparse(2, TailRule::kZero);
    const absl::Status status = backend().Supports(MakePlan(item, OneSpecEach()[1])->key);
    if (status.ok()) return;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("sparse"));
    GTEST_SKIP() << status;
  }

  // Against the oracle, and the same bits in pieces and chunks.
  void Check(const ItemShape& item, const LossSpec& spec, const RandomStyle& style = {}) {
    const ScoreCase c = RandomCase(item, spec, style, random_);
    if (HasFailure() || !backend().Supports(c.plan.key).ok()) return;
    const ScoreOutcome outcome = ScoreAlone(backend(), c);
    ExpectMatches(c, outcome);
    const ScoreOutcome pieces =
        ScoreAlone(backend(), c, {.chunk_leaves = 1, .pieces = {.max_size = 77, .misalign = 3}});
    EXPECT_EQ(pieces.BitDifference(outcome), "") << c.Describe();
    if (HasFailure()) ADD_FAILURE() << DescribeParameters(spec);
  }

  // Of every loss, small sizes on the reference, which is compared with itself.
  std::vector<LossSpec> specs() const {
    std::vector<LossSpec> all = OneSpecEach();
    if (GetParam() == "reference") all.resize(2);
    return all;
  }

  Random random_{4711};
};

TEST_P(BackendSparseTest, EveryLossSizeAndLayout) {
  for (const LossSpec& spec : specs()) {
    for (TailRule tail : kTails) {
      if (!Applies(spec, tail)) continue;
      for (std::int64_t classes : {1, 2, 5, 16, 21, 65, 130, 1000, 2100}) {
        for (std::int64_t k : {std::int64_t{1}, std::int64_t{3}, classes / 2, classes}) {
          if (k < 1 || k > std::min<std::int64_t>(classes, kMaxSparseClasses)) continue;
          for (bool class_last : {true, false}) {
            ItemShape item = FamilyItem(classes > 100 ? 3 : 37, classes, class_last);
            item.label = Sparse(k, tail);
            Check(item, spec, {.labels = k % 2 ? LabelStyle::kNormalized : LabelStyle::kUniform});
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(BackendSparseTest, EveryDTypeMaskAndWeight) {
  for (const LossSpec& spec : specs()) {
    for (TailRule tail : kTails) {
      if (!Applies(spec, tail)) continue;
      for (DType prediction : {DType::kF32, DType::kBF16, DType::kF64}) {
        for (DType values : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kU8}) {
          ItemShape item = FamilyItem(40, random_.Chance(0.5) ? 19 : 150, random_.Chance(0.5));
          item.prediction = item.gradient.emplace(prediction);
          item.label = Sparse(5, tail, values, random_.Chance(0.5) ? DType::kI32 : DType::kI64);
          item.has_mask = random_.Chance(0.5);
          item.has_row_weight = random_.Chance(0.5);
          Check(item, spec, {.labels = LabelStyle::kUniform});
          item.gradient.reset();
          Check(item, spec);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(BackendSparseTest, OptionsTemperaturesAndProbabilities) {
  for (const LossSpec& one : specs()) {
    for (TailRule tail : kTails) {
      if (!Applies(one, tail)) continue;
      for (int options = 0; options < 16; ++options) {
        const auto has = [&](int bit) { return ((options >> bit) & 1) != 0; };
        const std::int64_t classes = has(0) ? 18 : 140;
        LossSpec spec = one;
        spec.normalizer = Normalizer::kWeighted;
        if (tail != TailRule::kBucket) {
          if (has(1)) spec.label_smoothing = 0.1f;
          if (has(2)) spec.class_weight = RandomWeights(classes, random_);
          if (has(3)) spec.class_mask = RandomMask(classes, random_);
        }
        if (random_.Chance(0.4)) {
          spec.prediction_kind = PredictionKind::kProbabilities;
          spec.temperature.reset();
        } else if (!IsElementwise(spec.loss)) {
          spec.temperature = 2.5f;
          spec.z_loss = 0.01f;
          if (random_.Chance(0.3)) spec.label_check = LabelCheck::kRenormalize;
        }
        ItemShape item = FamilyItem(23, classes, random_.Chance(0.7));
        if (random_.Chance(0.3)) item.prediction = DType::kF64;
        item.label = Sparse(6, tail);
        Check(item, spec, {.labels = LabelStyle::kUniform, .logit_deviation = 3});
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(BackendSparseTest, ValuesOutOfRangeAndFarLogits) {
  for (const LossSpec& spec : specs()) {
    for (TailRule tail : kTails) {
      if (!Applies(spec, tail)) continue;
      for (double deviation : {0.01, 30.0, 1e4}) {
        ItemShape item = FamilyItem(30, random_.Chance(0.5) ? 21 : 300, true);
        item.label = Sparse(4, tail);
        Check(item, spec, {.labels = LabelStyle::kOneHot, .logit_deviation = deviation});
        if (HasFailure()) return;
      }
    }
  }
}

// What a sparse label stands for gives the same bits, whatever path the loss takes.
TEST_P(BackendSparseTest, SameBitsAsTheDenseLabel) {
  for (const LossSpec& spec : specs()) {
    for (TailRule tail : {TailRule::kRenormalize, TailRule::kUniform, TailRule::kZero}) {
      if (!Applies(spec, tail)) continue;
      for (std::int64_t classes : {7, 64, 150, 1040, 3000}) {
        ItemShape item = FamilyItem(9, classes, random_.Chance(0.7));
        item.label = Sparse(5, tail);
        const ScoreCase c = RandomCase(item, spec, {.labels = LabelStyle::kUniform}, random_);
        std::vector<double> dense;
        const std::vector<double> ids = Decode(DType::kI64, c.label_ids);
        const std::vector<double> values = Decode(DType::kF32, c.label);
        for (std::size_t r = 0; r < 9; ++r) {
          reference::SparseLabel label;
          for (std::size_t i = 5 * r; i < 5 * (r + 1); ++i) {
            label.ids.push_back(static_cast<std::int64_t>(ids[i]));
            label.values.push_back(values[i]);
          }
          for (reference::Real v : reference::Densified(c.plan.key, label)) {
            dense.push_back(static_cast<double>(v));
          }
        }
        item.label = LabelFormat();
        const ScoreCase same = CaseOf(
            item, spec, ToRowOrder(c.plan.geometry, Decode(DType::kF32, c.prediction)), dense);
        const ScoreOutcome a = ScoreAlone(backend(), c), b = ScoreAlone(backend(), same);
        EXPECT_EQ(a.BitDifference(b), "") << c.Describe();
        if (HasFailure()) return;
      }
    }
  }
}

// Cross entropy with a bucket, written out: -Σ t·ln p over the label's classes, and -t_r·ln p_r with
// what is left of both.
TEST_P(BackendSparseTest, BucketIsAClassOfItsOwn) {
  constexpr std::size_t kClasses = 40, kK = 3;
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  ItemShape item = FamilyItem(1, kClasses, true);
  item.prediction = item.label.dtype = DType::kF64;
  item.gradient = DType::kF64;
  item.label = Sparse(kK, TailRule::kBucket, DType::kF64);
  const double ids[kK] = {17, 2, 39}, values[kK] = {0.5, 0.2, 0.05};
  std::vector<double> x(kClasses), p(kClasses);
  double sum = 0;
  for (std::size_t c = 0; c < kClasses; ++c) sum += p[c] = std::exp(x[c] = random_.Normal());
  for (double& v : p) v /= sum;
  double loss = 0, inside = 0;
  std::vector<double> gradient = p;
  for (std::size_t i = 0; i < kK; ++i) {
    const auto c = static_cast<std::size_t>(ids[i]);
    loss -= values[i] * std::log(p[c]);
    gradient[c] -= values[i];
    inside += p[c];
  }
  loss -= 0.25 * std::log(1 - inside);
  for (std::size_t c = 0; c < kClasses; ++c) {
    if (std::count(ids, ids + kK, static_cast<double>(c)) == 0) {
      gradient[c] = p[c] * (1 - 0.25 / (1 - inside));
    }
  }
  const ScoreOutcome outcome = ScoreAlone(backend(), CaseOf(item, spec, x, values, {}, {}, ids));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NEAR(Decode(DType::kF64, outcome.row_loss)[0], loss, 1e-12);
  const std::vector<double> got = Decode(DType::kF64, outcome.gradient);
  for (std::size_t c = 0; c < kClasses; ++c) EXPECT_NEAR(got[c], gradient[c], 1e-13) << c;
}

TEST_P(BackendSparseTest, GradientsAreCentralDifferences) {
  constexpr std::size_t kClasses = 11;
  constexpr double kStep = 1e-5;
  for (const LossSpec& spec : OneSpecEach()) {
    for (TailRule tail : kTails) {
      if (!Applies(spec, tail)) continue;
      ItemShape item = FamilyItem(1, kClasses, true);
      item.prediction = DType::kF64;
      item.gradient = DType::kF64;
      item.label = Sparse(3, tail, DType::kF64, DType::kI32);
      const double ids[] = {4, 0, 9}, values[] = {0.45, 0.2, 0.1};
      std::vector<double> x(kClasses);
      for (double& v : x) v = 1.5 * random_.Normal();
      const auto score = [&] {
        return ScoreAlone(backend(), CaseOf(item, spec, x, values, {}, {}, ids));
      };
      const auto loss = [&] {
        double sum = 0;
        for (double v : Decode(DType::kF64, score().row_loss)) sum += v;
        return sum;
      };
      const std::vector<double> gradient = Decode(DType::kF64, score().gradient);
      for (std::size_t c = 0; c < kClasses; ++c) {
        const double at = x[c];
        x[c] = at + kStep;
        const double up = loss();
        x[c] = at - kStep;
        const double down = loss();
        x[c] = at;
        EXPECT_NEAR(gradient[c], (up - down) / (2 * kStep), 2e-8)
            << Name(spec.loss) << " tail " << static_cast<int>(tail) << " class " << c;
      }
      if (HasFailure()) return;
    }
  }
}

// With every class in the label there is nothing outside.
TEST_P(BackendSparseTest, AllClassesLeaveNoTail) {
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  ItemShape item = FamilyItem(1, 3, true);
  const std::vector<double> x = {0.3, -1, 2}, t = {0.1, 0.2, 0.3}, ids = {2, 0, 1};
  item.label = Sparse(3, TailRule::kZero);
  const ScoreOutcome want = ScoreAlone(backend(), CaseOf(item, spec, x, t, {}, {}, ids));
  for (TailRule tail : {TailRule::kUniform, TailRule::kBucket}) {
    item.label = Sparse(3, tail);
    const ScoreOutcome got = ScoreAlone(backend(), CaseOf(item, spec, x, t, {}, {}, ids));
    const std::vector<double> a = Decode(DType::kF32, got.gradient);
    const std::vector<double> b = Decode(DType::kF32, want.gradient);
    for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(a[c], b[c], 1e-6);
    EXPECT_NEAR(got.leaves[0].loss, want.leaves[0].loss, 1e-6);
  }
}

TEST_P(BackendSparseTest, BadIdsNameTheRowAndTheClass) {
  for (TailRule tail : {TailRule::kZero, TailRule::kBucket}) {
    for (bool class_last : {true, false}) {
      LossSpec spec;
      spec.loss = Loss::kSoftmaxCrossEntropy;
      ItemShape item = FamilyItem(600, 5, class_last);
      item.label = Sparse(2, tail, DType::kF32, DType::kI32);
      const std::vector<double> x(600 * 5, 0.5), t(600 * 2, 0.25);
      std::vector<double> ids(600 * 2);
      for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<double>(i % 2);
      std::vector<double> mask(600, 1);
      const auto message = [&](double id) {
        ids[2 * 301] = id;
        return std::string(
            ScoreAlone(backend(), CaseOf(item, spec, x, t, mask, {}, ids), {.chunk_leaves = 1})
                .status.message());
      };
      EXPECT_EQ(message(3), "");
      EXPECT_EQ(message(5), "label_ids: class ids must be in [0, 5); row 301 was 5");
      EXPECT_EQ(message(-1), "label_ids: class ids must be in [0, 5); row 301 was -1");
      EXPECT_EQ(message(1), "label_ids: a row's classes must differ; row 301 has class 1 twice");
      mask[301] = 0;  // such rows are not looked at
      EXPECT_EQ(message(77), "");
    }
  }
}

SOFTLOSS_FOR_ALL_BACKENDS(BackendSparseTest);

}  // namespace
}  // namespace softloss::testing
