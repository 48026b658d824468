// Which connection a request takes: policy without threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace softloss::internal {

// Bytes submitted to a connection and not yet completed, up and down, by the size of their requests.
struct LaneLoad {
  std::int64_t small = 0;
  std::int64_t bulk = 0;
};

// Requests up to this size are small.
inline constexpr std::int64_t kSmallBytes = 128 << 10;
constexpr bool IsSmall(std::int64_t bytes) { return bytes <= kSmallBytes; }

// A connection with this much bulk outstanding has its thread busy.
inline constexpr std::int64_t kBusyBytes = 32 << 20;

struct Route {
  std::size_t lane = 0;
  bool crowded = false;  // one connection more would serve the request better
};

// Small requests keep out of the way of bulk: they go where there is none, or least; bulk leaves the
// last of several connections to them. Among those the one with the least to do. `lanes` is not empty.
Route ChooseLane(absl::Span<const LaneLoad> lanes, std::int64_t bytes);

// How many connections a client opens by itself on a machine with `cores`: one for small requests,
// the others for bulk, each of which may occupy a core.
int MostLanes(unsigned cores);

}  // namespace softloss::internal
