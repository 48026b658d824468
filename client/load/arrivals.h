// When requests are to be sent.
#pragma once

#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace softloss::load {

enum class ArrivalKind : std::uint8_t {
  kClosed,   // a request as soon as one completes: a fixed number is in flight
  kUniform,  // open loop: at a fixed rate, whether or not earlier ones have completed
  kPoisson,  // open loop: at that rate on average, independently of each other
};

// The times of an open loop, from its start. Not thread-safe.
class Arrivals {
 public:
  // `rate` a second, positive.
  Arrivals(ArrivalKind kind, double rate, std::uint64_t seed)
      : kind_(kind), rate_(rate), random_(seed) {}

  // The next, not before the last. The first is at 0.
  absl::Duration Next();

 private:
  const ArrivalKind kind_;
  const double rate_;
  std::mt19937_64 random_;
  std::int64_t count_ = 0;
  double seconds_ = 0;
};

}  // namespace softloss::load
