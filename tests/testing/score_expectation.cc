#include "tests/testing/score_expectation.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "kernels/reference_regions.h"
#include "kernels/reference_sparse.h"

namespace softloss::testing {
namespace {

using reference::Real;

double LargestFinite(DType dtype) {
  switch (dtype) {
    case DType::kF16: return 65504;
    case DType::kBF16: return 0x1.FEp127;
    case DType::kF64: return 0x1.FFFFFFFFFFFFFp1023;
    default: return 0x1.FFFFFEp127;
  }
}

// `tolerance` is before the rounding to `dtype`.
bool IsClose(DType dtype, double got, Real want, Real tolerance, bool any_nonfinite) {
  if (!std::isfinite(want)) {
    if (any_nonfinite) return !std::isfinite(got);
    return std::isnan(want) ? std::isnan(got) : got == want;
  }
  const Real reach = std::fabs(want) + tolerance;
  if (std::isinf(got)) {
    return std::signbit(got) == std::signbit(want) &&
           reach >= LargestFinite(dtype) + HalfUlp(dtype, LargestFinite(dtype));
  }
  return std::fabs(got - want) <= tolerance + HalfUlp(dtype, static_cast<double>(reach));
}

class Comparison {
 public:
  Comparison(const ScoreCase& c, const ScoreOutcome& outcome, bool any_nonfinite)
      : case_(c),
        outcome_(outcome),
        any_nonfinite_(any_nonfinite),
        bounds_(BoundsFor(c.item.prediction)),
        expected_(Expect(c)) {}

  void Run() {
    ASSERT_TRUE(outcome_.status.ok()) << outcome_.status << "\n" << case_.Describe();
    EXPECT_EQ(outcome_.tally.valid, expected_.tally.valid) << case_.Describe();
    EXPECT_EQ(outcome_.tally.nonfinite_predictions, expected_.tally.nonfinite_predictions)
        << case_.Describe();
    EXPECT_EQ(outcome_.tally.nonfinite_labels, expected_.tally.nonfinite_labels)
        << case_.Describe();
    EXPECT_EQ(outcome_.tally.nonfinite_losses, expected_.tally.nonfinite_losses)
        << case_.Describe();
    EXPECT_EQ(outcome_.tally.unnormalized_labels, expected_.tally.unnormalized_labels)
        << case_.Describe();
    EXPECT_EQ(outcome_.tally.out_of_range_labels, expected_.tally.out_of_range_labels)
        << case_.Describe();
    CompareGradients();
    CompareRowLosses();
    CompareLeaves();
  }

 private:
  void Check(const char* what, std::size_t row, std::size_t c, DType dtype, double got, Real want,
             Real tolerance) {
    if (IsClose(dtype, got, want, tolerance, any_nonfinite_)) return;
    if (++failures_ > 3) return;
    ADD_FAILURE() << what << " of row " << row << ", class " << c << " is " << got << ", not "
                  << want << "; off by " << std::fabs(got - want) << ", allowed " << tolerance
                  << "\n"
                  << case_.Describe();
  }

  void CompareGradients() {
    if (!case_.item.gradient.has_value()) return;
    const DType dtype = *case_.item.gradient;
    const std::vector<double> got =
        ToRowOrder(case_.plan.geometry, Decode(dtype, outcome_.gradient));
    const auto classes = static_cast<std::size_t>(case_.plan.geometry.classes);
    for (std::size_t r = 0; r < expected_.rows.size(); ++r) {
      const reference::Row& row = expected_.rows[r];
      for (std::size_t c = 0; c < classes; ++c) {
        Check("gradient", r, c, dtype, got[r * classes + c], row.gradient[c],
              bounds_.gradient * row.gradient_scale[c]);
      }
    }
  }

  void CompareRowLosses() {
    if (!case_.item.want_row_loss) return;
    const DType dtype = case_.plan.row_loss_dtype();
    std::vector<double> got = Decode(dtype, outcome_.row_loss);
    if (IsElementwise(case_.spec.loss)) got = ToRowOrder(case_.plan.geometry, got);
    std::size_t i = 0;
    for (std::size_t r = 0; r < expected_.rows.size(); ++r) {
      const reference::Row& row = expected_.rows[r];
      for (std::size_t c = 0; c < row.loss.size(); ++c) {
        Check("loss", r, c, dtype, got[i++], row.loss[c],
              bounds_.loss * row.terms[c] + (row.terms[c] > 0 ? bounds_.tiny : 0));
      }
    }
  }

  void CompareLeaves() {
    const auto leaf_rows = static_cast<std::size_t>(case_.plan.leaf_rows);
    // Squares are taken in the type of computation: those below its normal numbers may be lost.
    const Real least_square =
        case_.plan.row_loss_dtype() == DType::kF64 ? Real{0x1p-1022} : Real{0x1p-126f};
    for (std::size_t leaf = 0; leaf < outcome_.leaves.size(); ++leaf) {
      Real loss = 0, terms = 0, weight = 0, weight_terms = 0, square = 0, square_error = 0;
      const std::size_t end = std::min((leaf + 1) * leaf_rows, expected_.rows.size());
      for (std::size_t r = leaf * leaf_rows; r < end; ++r) {
        const reference::Row& row = expected_.rows[r];
        for (Real v : row.loss) loss += v;
        for (Real v : row.terms) terms += v;
        weight += row.weight;
        weight_terms += row.weight_terms;
        for (std::size_t c = 0; c < row.gradient.size(); ++c) {
          const Real error = bounds_.gradient * row.gradient_scale[c];
          square += row.gradient[c] * row.gradient[c];
          square_error += error * (2 * std::fabs(row.gradient[c]) + error);
          if (row.gradient[c] != 0) square_error += least_square;
        }
      }
      const LeafSum& got = outcome_.leaves[leaf];
      Check("sum of losses (row = leaf)", leaf, 0, DType::kF64, got.loss, loss,
            bounds_.loss * terms + (terms > 0 ? bounds_.tiny : 0));
      if (case_.spec.normalizer == Normalizer::kWeighted) {
        Check("sum of weights (row = leaf)", leaf, 0, DType::kF64, got.weight, weight,
              bounds_.loss * weight_terms);
      }
      if (!case_.item.gradient.has_value()) square = square_error = 0;
      Check("sum of squared gradients (row = leaf)", leaf, 0, DType::kF64, got.gradient_square,
            square, square_error + bounds_.loss * square);
    }
  }

  const ScoreCase& case_;
  const ScoreOutcome& outcome_;
  const bool any_nonfinite_;
  const ErrorBounds bounds_;
  const Expectation expected_;
  int failures_ = 0;
};

reference::SparseLabel SparseRow(const ScoreCase& c, std::int64_t row) {
  const LabelFormat& label = c.plan.key.label;
  reference::SparseLabel sparse;
  for (std::int64_t i = row * label.k; i < (row + 1) * label.k; ++i) {
    sparse.ids.push_back(reference::LoadInteger(label.id_dtype, c.label_ids.data(), i));
    sparse.values.push_back(reference::LoadFloat(label.dtype, c.label.data(), i));
  }
  sparse.values = reference::DecodeLabels(c.plan.key, sparse.values);
  return sparse;
}

// Row `r` of predictions and labels that are not sparse. False if it does not count.
bool ReadRow(const ScoreCase& c, std::int64_t r, std::vector<Real>* x, std::vector<Real>* t,
             Real* weight) {
  const ScoreKey& key = c.plan.key;
  const Geometry& g = c.plan.geometry;
  const bool counts = !c.item.has_mask || c.mask[static_cast<std::size_t>(r)] != std::byte{0};
  const std::int64_t id = key.label.kind == LabelKind::kClassId
                              ? reference::LoadInteger(key.label.dtype, c.label.data(), r)
                              : -1;
  if (!counts || (key.label.kind == LabelKind::kClassId && c.spec.ignore_index == id)) return false;
  x->resize(static_cast<std::size_t>(g.classes));
  t->assign(x->size(), 0);
  for (std::int64_t k = 0; k < g.classes; ++k) {
    const std::int64_t at = (r / g.inner * g.classes + k) * g.inner + r % g.inner;
    (*x)[static_cast<std::size_t>(k)] =
        reference::LoadFloat(key.prediction, c.prediction.data(), at);
    if (key.label.kind == LabelKind::kSparse) continue;
    (*t)[static_cast<std::size_t>(k)] =
        id >= 0 ? k == id : reference::LoadFloat(key.label.dtype, c.label.data(), at);
  }
  if (key.label.kind == LabelKind::kDense) {
    *t = reference::DecodeLabels(key, *t, c.spec.class_mask);
  }
  *weight = c.item.has_row_weight ? reference::LoadFloat(DType::kF32, c.row_weight.data(), r) : 1;
  return true;
}

// An image as rows, the first of which has its regions' losses.
void ExpectImage(const ScoreCase& c, std::int64_t begin, Expectation* expectation) {
  std::vector<reference::Position> positions(static_cast<std::size_t>(c.plan.leaf_rows));
  for (reference::Position& at : positions) {
    at.counts = ReadRow(c, begin++, &at.x, &at.t, &at.weight);
  }
  reference::Image image = reference::ScoreImage(c.plan.key, c.spec, positions);
  for (std::size_t r = 0; r < positions.size(); ++r) {
    reference::Row row;
    row.gradient = std::move(image.gradient[r]);
    row.gradient_scale = std::move(image.gradient_scale[r]);
    if (r == 0) {
      row.loss = image.loss;
      row.terms = image.terms;
      row.weight = row.weight_terms = image.weight;
    }
    expectation->rows.push_back(std::move(row));
  }
  expectation->tally += image.tally;
}

}  // namespace

Expectation Expect(const ScoreCase& c) {
  const ScoreKey& key = c.plan.key;
  const Geometry& g = c.plan.geometry;
  Expectation expectation;
  if (c.plan.regional()) {
    for (std::int64_t r = 0; r < g.rows(); r += c.plan.leaf_rows) ExpectImage(c, r, &expectation);
    return expectation;
  }
  std::vector<Real> x, t;
  for (std::int64_t r = 0; r < g.rows(); ++r) {
    reference::Row row = reference::SkippedRow(key);
    Real weight = 1;
    if (ReadRow(c, r, &x, &t, &weight)) {
      row = key.label.kind == LabelKind::kSparse
                ? reference::ScoreSparse(key, c.spec, x, SparseRow(c, r), weight)
                : reference::ScoreRow(key, c.spec, x, t, weight);
    }
    expectation.tally += row.tally;
    expectation.rows.push_back(std::move(row));
  }
  return expectation;
}

Real HalfUlp(DType dtype, double value) {
  int digits = 24;
  int smallest = -149;
  switch (dtype) {
    case DType::kF16: digits = 11, smallest = -24; break;
    case DType::kBF16: digits = 8, smallest = -133; break;
    case DType::kF64: digits = 53, smallest = -1074; break;
    default: break;
  }
  const int exponent = value == 0 || !std::isfinite(value) ? smallest : std::ilogb(value);
  return std::scalbn(Real{0.5}, std::max(exponent - digits + 1, smallest));
}

void ExpectMatches(const ScoreCase& c, const ScoreOutcome& outcome, bool any_nonfinite) {
  Comparison(c, outcome, any_nonfinite).Run();
}

}  // namespace softloss::testing
