#include "server/lanes.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace softloss {

void Lanes::Submit(std::unique_ptr<ScoreTask> task) {
  const auto rank = [](const std::unique_ptr<Batcher>& lane) {
    return std::tuple(!lane->healthy(), lane->outstanding_bytes());
  };
  const auto least = std::min_element(lanes_.begin(), lanes_.end(),
                                      [&](auto& a, auto& b) { return rank(a) < rank(b); });
  (*least)->Submit(std::move(task));
}

void Lanes::Shutdown() {
  for (const std::unique_ptr<Batcher>& lane : lanes_) lane->Shutdown();
}

std::int64_t Lanes::healthy() const {
  return std::count_if(lanes_.begin(), lanes_.end(), [](auto& lane) { return lane->healthy(); });
}

std::int64_t Lanes::queued_items() const {
  std::int64_t items = 0;
  for (const std::unique_ptr<Batcher>& lane : lanes_) items += lane->queued_items();
  return items;
}

std::int64_t Lanes::queued_bytes() const {
  std::int64_t bytes = 0;
  for (const std::unique_ptr<Batcher>& lane : lanes_) bytes += lane->queued_bytes();
  return bytes;
}

std::int64_t Lanes::max_queued_bytes() const {
  std::int64_t bytes = 0;
  for (const std::unique_ptr<Batcher>& lane : lanes_) bytes += lane->max_queued_bytes();
  return bytes;
}

Duration Lanes::oldest_age() const {
  Duration oldest(0);
  for (const std::unique_ptr<Batcher>& lane : lanes_) oldest = std::max(oldest, lane->oldest_age());
  return oldest;
}

}  // namespace softloss
