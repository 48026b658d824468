#include "tests/bench/worst_error.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/engine.h"
#include "kernels/reference.h"
#include "tests/testing/random.h"

namespace softloss {
namespace {

using reference::Real;

constexpr std::int64_t kElements = 100'000;

struct Row {
  std::vector<Real> x, t;
};

Row HardRow(std::int64_t row, std::int64_t classes, bool elementwise, testing::Random& random) {
  Row r;
  const double spread = std::vector{0.5, 4.0, 20.0, 80.0}[static_cast<std::size_t>(row % 4)];
  const double offset = elementwise || row % 3 == 0 ? 0 : 1e4 * (2 * random.Uniform() - 1);
  const std::int64_t hot = random.Int(0, classes);
  const double rest = row % 5 == 0 ? 0 : row % 5 == 1 ? 1e-4 : 1;
  Real sum = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    r.x.push_back(static_cast<float>(offset + spread * (2 * random.Uniform() - 1)));
    const double share = rest * random.Uniform();
    r.t.push_back(elementwise ? share : c == hot ? 1 : share / static_cast<double>(classes));
    sum += r.t.back();
  }
  for (Real& t : r.t) t = static_cast<float>(elementwise ? t : t / sum);
  return r;
}

}  // namespace

WorstError FindWorstError(Backend& backend, Loss loss, std::int64_t classes, bool class_last) {
  const std::int64_t rows = std::max<std::int64_t>(8, kElements / classes);
  ItemShape item;
  item.shape = class_last ? std::vector{rows, classes} : std::vector{classes, rows};
  item.class_axis = class_last ? 1 : 0;
  item.gradient = DType::kF32;
  item.want_row_loss = true;
  LossSpec spec;
  spec.loss = loss;

  testing::Random random(3);
  std::vector<Row> inputs;
  const auto elements = static_cast<std::size_t>(rows * classes);
  std::vector<float> x(elements), t(elements), gradient(elements), row_loss(elements);
  const auto place = [&](std::int64_t r, std::int64_t c) {
    return static_cast<std::size_t>(class_last ? r * classes + c : c * rows + r);
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    inputs.push_back(HardRow(r, classes, IsElementwise(loss), random));
    for (std::int64_t c = 0; c < classes; ++c) {
      const auto i = static_cast<std::size_t>(c);
      x[place(r, c)] = static_cast<float>(inputs.back().x[i]);
      t[place(r, c)] = static_cast<float>(inputs.back().t[i]);
    }
  }
  InlineExecutor executor;
  if (const auto totals = ScoreItem(backend, executor, spec, item, {x.data(), t.data()},
                                    {gradient.data(), row_loss.data()});
      !totals.ok()) {
    std::fprintf(stderr, "%s\n", totals.status().ToString().c_str());
    std::exit(1);
  }

  const ScoreKey key = MakePlan(item, spec)->key;
  WorstError worst;
  for (std::int64_t r = 0; r < rows; ++r) {
    const Row& input = inputs[static_cast<std::size_t>(r)];
    const reference::Row want = reference::ScoreRow(key, spec, input.x, input.t, 1);
    for (std::size_t i = 0; i < want.loss.size(); ++i) {
      if (want.terms[i] <= 0) continue;
      const std::size_t at = want.loss.size() == 1 && classes > 1
                                 ? static_cast<std::size_t>(r)
                                 : place(r, static_cast<std::int64_t>(i));
      // Relative accuracy ends at 1e-36.
      const Real error =
          std::max(Real{0}, std::fabs(row_loss[at] - want.loss[i]) - 1e-36L) / want.terms[i];
      worst.loss = std::max(worst.loss, static_cast<double>(error));
    }
    for (std::size_t c = 0; c < want.gradient.size(); ++c) {
      const Real error =
          std::fabs(gradient[place(r, static_cast<std::int64_t>(c))] - want.gradient[c]);
      worst.gradient =
          std::max(worst.gradient, static_cast<double>(error / want.gradient_scale[c]));
    }
  }
  return worst;
}

}  // namespace softloss
