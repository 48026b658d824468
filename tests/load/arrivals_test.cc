#include "client/load/arrivals.h"

#include <gtest/gtest.h>

#include <vector>

namespace softloss::load {
namespace {

TEST(ArrivalsTest, UniformOnesDoNotDrift) {
  Arrivals arrivals(ArrivalKind::kUniform, 3000, 1);
  for (int i = 0; i < 100'000; ++i) {
    EXPECT_NEAR(absl::ToDoubleSeconds(arrivals.Next()), i / 3000.0, 1e-9);
  }
}

TEST(ArrivalsTest, PoissonOnesHaveExponentialGaps) {
  Arrivals arrivals(ArrivalKind::kPoisson, 1000, 7);
  double last = absl::ToDoubleSeconds(arrivals.Next());
  EXPECT_EQ(last, 0);
  const int count = 200'000;
  double sum = 0, squares = 0;
  int long_gaps = 0;
  for (int i = 0; i < count; ++i) {
    const double now = absl::ToDoubleSeconds(arrivals.Next());
    const double gap = 1000 * (now - last);
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
    long_gaps += gap > 3;
    last = now;
  }
  // Of an exponential: mean 1, variance 1, P(gap > 3) = e^-3; five standard errors.
  EXPECT_NEAR(sum / count, 1, 0.012);
  EXPECT_NEAR(squares / count - sum / count * sum / count, 1, 0.04);
  EXPECT_NEAR(static_cast<double>(long_gaps) / count, 0.0498, 0.0025);
}

TEST(ArrivalsTest, ASeedIsASchedule) {
  Arrivals a(ArrivalKind::kPoisson, 10, 3), b(ArrivalKind::kPoisson, 10, 3),
      c(ArrivalKind::kPoisson, 10, 4);
  a.Next(), b.Next(), c.Next();
  const absl::Duration next = a.Next();
  EXPECT_EQ(next, b.Next());
  EXPECT_NE(next, c.Next());
}

}  // namespace
}  // namespace softloss::load
