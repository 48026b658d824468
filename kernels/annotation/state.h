// Sums put aside: files that are written shard by shard, anywhere, and merged in any order.
//
// The format, version 1. Numbers are little-endian; a string is its length (u32) and its bytes.
//
//   magic      8 bytes "SLQSTATE"
//   version    u32, 1
//   length     u64, of the payload in bytes
//   payload    schema   string: what the sums are of, and how
//              classes  u32 count, strings, in the order of their numbers
//              shards   u32 count, strings, ascending: what has gone into the sums
//              sums     u32 count, then by ascending key: key string, u64 n, n sums of 16 bytes
//                       (exact_sum.h: units of 2^-72, two's complement)
//              counts   u32 count, then by ascending key: key string, u64 n, n values of i64
//   checksum   u64, FNV-1a (64 bits) of all before it
//
// The same state is always the same bytes. The checksum finds damage, not forgery.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/annotation/exact_sum.h"

namespace softloss::annotation {

// A value; const methods are thread-safe.
class State {
 public:
  static constexpr std::uint32_t kVersion = 1;

  State() = default;
  State(std::string schema, std::vector<std::string> classes);

  const std::string& schema() const { return schema_; }
  const std::vector<std::string>& classes() const { return classes_; }
  const std::set<std::string>& shards() const { return shards_; }

  // Says that a shard has gone into the sums. ALREADY_EXISTS: it had before.
  absl::Status AddShard(std::string_view shard);

  // Sums and counts by key; made, empty, where absent.
  std::vector<ExactSum>& sums(std::string_view key);
  std::vector<std::int64_t>& counts(std::string_view key);
  // Null where absent.
  const std::vector<ExactSum>* FindSums(std::string_view key) const;
  const std::vector<std::int64_t>* FindCounts(std::string_view key) const;
  // All, by ascending key.
  using SumMap = std::map<std::string, std::vector<ExactSum>, std::less<>>;
  using CountMap = std::map<std::string, std::vector<std::int64_t>, std::less<>>;
  const SumMap& all_sums() const { return sums_; }
  const CountMap& all_counts() const { return counts_; }

  // Adds the other's, key by key; a key of only one is kept. Unless OK nothing is changed:
  // INVALID_ARGUMENT: another schema, other classes, or lists of one key of different lengths;
  // ALREADY_EXISTS: a shard is in both, and would count twice; OUT_OF_RANGE: a count overflows.
  absl::Status Merge(const State& other);

  std::string Serialize() const;
  // INVALID_ARGUMENT: no state file, or of an unknown version; DATA_LOSS: a state file that is cut
  // short, too long, or damaged.
  static absl::StatusOr<State> Parse(std::string_view bytes);

  friend bool operator==(const State&, const State&) = default;

 private:
  std::string schema_;
  std::vector<std::string> classes_;
  std::set<std::string> shards_;
  SumMap sums_;
  CountMap counts_;
};

}  // namespace softloss::annotation
