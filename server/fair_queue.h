// Whose turn it is: tenants share by bytes, and so do the flows (streams, calls) of each tenant.
//
// Deficit round robin (Shreedhar and Varghese, 1995) on both levels. Whoever comes after having had
// nothing to do goes before those who had their turn, but only once a round (as the new flows of
// RFC 8290): so a few small items do not wait behind bulk, and nobody gains by stopping and starting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace softloss {

// In order of arrival.
template <typename T>
class Fifo {
 public:
  std::size_t size() const { return entries_.size(); }
  void Push(std::int64_t cost, T value) { entries_.push_back({cost, std::move(value)}); }
  std::int64_t NextCost() { return entries_.front().cost; }
  T Pop() {
    T value = std::move(entries_.front().value);
    entries_.pop_front();
    return value;
  }
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const Entry& entry : entries_) visit(entry.value);
  }
  template <typename Remove>
  std::size_t EraseIf(Remove remove) {
    return std::erase_if(entries_, [&](Entry& entry) { return remove(entry.value); });
  }

 private:
  struct Entry {
    std::int64_t cost;
    T value;
  };
  std::deque<Entry> entries_;
};

// Queues by key, which share by the cost of what is popped.
template <typename Queue>
class RoundRobin {
 public:
  // What one may have before the next one's turn.
  static constexpr std::int64_t kQuantum = 128 << 10;

  std::size_t size() const { return size_; }

  // `what` is what the key's queue takes.
  template <typename... What>
  void Push(const void* key, What&&... what) {
    std::unique_ptr<Party>& party = parties_[key];
    if (party == nullptr) {
      party = std::make_unique<Party>(Party{.key = key});
      newcomers_.push_back(party.get());
    }
    party->queue.Push(std::forward<What>(what)...);
    ++size_;
  }

  // Only if size() > 0, as Pop(), whose cost it is if nothing is pushed before.
  std::int64_t NextCost() { return Next()->queue.NextCost(); }
  auto Pop() {
    Party* const party = Next();
    party->credit -= party->queue.NextCost();
    --size_;
    return party->queue.Pop();
  }

  // In no particular order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [key, party] : parties_) party->queue.ForEach(visit);
  }
  // `remove(value)` may move out what it returns true for. Returns how many there were.
  template <typename Remove>
  std::size_t EraseIf(Remove remove) {
    std::size_t erased = 0;
    for (const auto& [key, party] : parties_) erased += party->queue.EraseIf(remove);
    size_ -= erased;
    return erased;
  }

 private:
  struct Party {
    const void* key = nullptr;
    std::int64_t credit = kQuantum;  // below 0 while it owes what it had beyond its share
    Queue queue{};
  };

  Party* Next() {
    for (;;) {
      const bool newcomer = !newcomers_.empty();
      std::deque<Party*>& list = newcomer ? newcomers_ : regulars_;
      Party* const party = list.front();
      const bool has_none = party->queue.size() == 0;
      if (!has_none && party->credit > 0) return party;
      list.pop_front();
      if (party->credit <= 0) {
        party->credit += kQuantum;
        regulars_.push_back(party);
      } else if (newcomer && !regulars_.empty()) {
        regulars_.push_back(party);  // for a round, in which it is no newcomer
      } else {
        parties_.erase(party->key);
      }
    }
  }

  absl::flat_hash_map<const void*, std::unique_ptr<Party>> parties_;
  std::deque<Party*> newcomers_, regulars_;  // each party is in one of the two
  std::size_t size_ = 0;
};

// Push(tenant, flow, cost in bytes, value): a flow's values leave in the order in which they came.
// Tenants and flows are told apart by address, and forgotten once they have nothing and owe nothing.
// Not thread-safe.
template <typename T>
using FairQueue = RoundRobin<RoundRobin<Fifo<T>>>;

}  // namespace softloss
