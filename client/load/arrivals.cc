#include "client/load/arrivals.h"

#include <cmath>

namespace softloss::load {

absl::Duration Arrivals::Next() {
  const absl::Duration now = absl::Seconds(seconds_);
  ++count_;
  if (kind_ == ArrivalKind::kPoisson) {
    // Exponential gaps, from 53 random bits: the standard library's are not the same everywhere.
    const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
    seconds_ -= std::log1p(-uniform) / rate_;
  } else {
    seconds_ = static_cast<double>(count_) / rate_;
  }
  return now;
}

}  // namespace softloss::load
