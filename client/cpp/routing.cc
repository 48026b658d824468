#include "client/cpp/routing.h"

#include <algorithm>
#include <tuple>

namespace softloss::internal {

Route ChooseLane(absl::Span<const LaneLoad> lanes, std::int64_t bytes) {
  const bool small = IsSmall(bytes);
  const auto rank = [small](const LaneLoad& l) {
    return small ? std::tuple(l.bulk, l.small) : std::tuple(l.bulk + l.small, std::int64_t{0});
  };
  const std::size_t usable = small ? lanes.size() : std::max<std::size_t>(lanes.size() - 1, 1);
  const auto least =
      std::min_element(lanes.begin(), lanes.begin() + usable,
                       [&](const LaneLoad& a, const LaneLoad& b) { return rank(a) < rank(b); });
  return {static_cast<std::size_t>(least - lanes.begin()), least->bulk > (small ? 0 : kBusyBytes)};
}

int MostLanes(unsigned cores) { return 1 + std::clamp(static_cast<int>(cores) / 4, 1, 4); }

}  // namespace softloss::internal
