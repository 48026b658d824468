// What comes back beside the arrays, from the engine and from a server alike.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/reduce.h"

namespace softloss::python {

struct Totals {
  ItemTotals item;
  std::string numerics_id;
  // Nanoseconds.
  std::uint64_t decode_ns = 0;
  std::uint64_t queue_ns = 0;
  std::uint64_t host_to_device_ns = 0;
  std::uint64_t compute_ns = 0;
  std::uint64_t device_to_host_ns = 0;
  std::uint64_t encode_ns = 0;
  std::uint64_t total_ns = 0;  // from the call to the result
  int attempts = 1;            // how often the request was sent
};

}  // namespace softloss::python
