#include "kernels/annotation/state.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace softloss::annotation {
namespace {

constexpr std::string_view kMagic = "SLQSTATE";
constexpr std::size_t kHeader = 8 + 4 + 8, kChecksum = 8;

std::uint64_t Checksum(std::string_view bytes) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

// Whole numbers, least byte first, whatever the machine's order.
template <typename T>
void PutNumber(T value, std::string& out) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xFF));
  }
}

void PutString(std::string_view value, std::string& out) {
  PutNumber(static_cast<std::uint32_t>(value.size()), out);
  out.append(value);
}

// Reads what Put wrote; after a read beyond the end, ok() is false and values are zeros.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  bool at_end() const { return bytes_.empty(); }
  std::string_view Bytes(std::uint64_t size) {
    if (size > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const std::string_view out = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return out;
  }
  template <typename T>
  T Number() {
    std::uint64_t value = 0;
    const std::string_view bytes = Bytes(sizeof(T));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    }
    return static_cast<T>(value);
  }
  std::string String() { return std::string(Bytes(Number<std::uint32_t>())); }
  // How many of `size` bytes each are said to follow; none where there are not so many.
  std::uint64_t Length(std::uint64_t count, std::size_t size) {
    if (count > bytes_.size() / size) {
      ok_ = false;
      bytes_ = {};
      return 0;
    }
    return count;
  }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

// A map's lists by key; ascending keys only, so that equal states are equal bytes.
template <typename Map, typename Get>
void ReadMap(Reader& reader, std::size_t size, Map& map, bool& ascending, Get get) {
  const auto keys = reader.Number<std::uint32_t>();
  for (std::uint32_t i = 0; i < keys && reader.ok(); ++i) {
    std::string key = reader.String();
    const std::uint64_t n = reader.Length(reader.Number<std::uint64_t>(), size);
    if (!map.empty() && key <= map.rbegin()->first) ascending = false;
    auto& list = map[std::move(key)];
    list.reserve(n);
    for (std::uint64_t j = 0; j < n; ++j) list.push_back(get(reader));
  }
}

template <typename Map>
absl::Status CheckLengths(const Map& mine, const Map& others) {
  for (const auto& [key, list] : others) {
    const auto found = mine.find(key);
    if (found != mine.end() && found->second.size() != list.size()) {
      return absl::InvalidArgumentError(absl::StrCat(key,
                                                     ": lists to merge must be of one length; are ",
                                                     found->second.size(), " and ", list.size()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

State::State(std::string schema, std::vector<std::string> classes)
    : schema_(std::move(schema)), classes_(std::move(classes)) {}

absl::Status State::AddShard(std::string_view shard) {
  if (!shards_.emplace(shard).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("shard \"", std::string(shard), "\": is in the state already"));
  }
  return absl::OkStatus();
}

std::vector<ExactSum>& State::sums(std::string_view key) {
  const auto found = sums_.find(key);
  return found != sums_.end() ? found->second : sums_[std::string(key)];
}

std::vector<std::int64_t>& State::counts(std::string_view key) {
  const auto found = counts_.find(key);
  return found != counts_.end() ? found->second : counts_[std::string(key)];
}

const std::vector<ExactSum>* State::FindSums(std::string_view key) const {
  const auto found = sums_.find(key);
  return found != sums_.end() ? &found->second : nullptr;
}

const std::vector<std::int64_t>* State::FindCounts(std::string_view key) const {
  const auto found = counts_.find(key);
  return found != counts_.end() ? &found->second : nullptr;
}

absl::Status State::Merge(const State& other) {
  if (schema_ != other.schema_) {
    return absl::InvalidArgumentError(absl::StrCat("schema: states to merge must have one; have \"",
                                                   schema_, "\" and \"", other.schema_, "\""));
  }
  if (classes_ != other.classes_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "classes: states to merge must have the same, in one order; have [",
        absl::StrJoin(classes_, ", "), "] and [", absl::StrJoin(other.classes_, ", "), "]"));
  }
  for (const std::string& shard : other.shards_) {
    if (shards_.count(shard) > 0) {
      return absl::AlreadyExistsError(
          absl::StrCat("shard \"", shard, "\": is in both states, and would count twice"));
    }
  }
  if (auto s = CheckLengths(sums_, other.sums_); !s.ok()) return s;
  if (auto s = CheckLengths(counts_, other.counts_); !s.ok()) return s;
  CountMap counts = counts_;
  for (const auto& [key, list] : other.counts_) {
    std::vector<std::int64_t>& mine = counts[key];
    mine.resize(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (__builtin_add_overflow(mine[i], list[i], &mine[i])) {
        return absl::OutOfRangeError(absl::StrCat(key, ": count ", i, " leaves the range of i64"));
      }
    }
  }
  counts_ = std::move(counts);
  for (const auto& [key, list] : other.sums_) {
    std::vector<ExactSum>& mine = sums_[key];
    mine.resize(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) mine[i] += list[i];
  }
  shards_.insert(other.shards_.begin(), other.shards_.end());
  return absl::OkStatus();
}

std::string State::Serialize() const {
  std::string payload;
  PutString(schema_, payload);
  PutNumber(static_cast<std::uint32_t>(classes_.size()), payload);
  for (const std::string& name : classes_) PutString(name, payload);
  PutNumber(static_cast<std::uint32_t>(shards_.size()), payload);
  for (const std::string& shard : shards_) PutString(shard, payload);
  PutNumber(static_cast<std::uint32_t>(sums_.size()), payload);
  for (const auto& [key, list] : sums_) {
    PutString(key, payload);
    PutNumber(static_cast<std::uint64_t>(list.size()), payload);
    for (const ExactSum& sum : list) {
      const auto bytes = sum.ToBytes();
      payload.append(bytes.data(), bytes.size());
    }
  }
  PutNumber(static_cast<std::uint32_t>(counts_.size()), payload);
  for (const auto& [key, list] : counts_) {
    PutString(key, payload);
    PutNumber(static_cast<std::uint64_t>(list.size()), payload);
    for (const std::int64_t count : list) PutNumber(count, payload);
  }

  std::string out(kMagic);
  PutNumber(kVersion, out);
  PutNumber(static_cast<std::uint64_t>(payload.size()), out);
  out += payload;
  PutNumber(Checksum(out), out);
  return out;
}

absl::StatusOr<State> State::Parse(std::string_view bytes) {
  if (bytes.empty()) return absl::DataLossError("state: is empty (0 bytes)");
  if (bytes.substr(0, kMagic.size()) != kMagic.substr(0, bytes.size())) {
    return absl::InvalidArgumentError(
        "state: must begin with \"SLQSTATE\"; this is another kind of file");
  }
  if (bytes.size() < kHeader + kChecksum) {
    return absl::DataLossError(
        absl::StrCat("state: cut short: has ", bytes.size(), " bytes, fewer than a header"));
  }
  Reader header(bytes.substr(kMagic.size()));
  const auto version = header.Number<std::uint32_t>();
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("state: must be of version ", kVersion, "; is of version ", version));
  }
  const auto length = header.Number<std::uint64_t>();
  const std::uint64_t there = bytes.size() - kHeader - kChecksum;
  if (length != there) {
    return absl::DataLossError(absl::StrCat("state: must have a payload of ", length,
                                            " bytes, as it says; has ", there,
                                            there < length ? " (cut short)" : " (too long)"));
  }
  Reader trailer(bytes.substr(bytes.size() - kChecksum));
  if (trailer.Number<std::uint64_t>() != Checksum(bytes.substr(0, bytes.size() - kChecksum))) {
    return absl::DataLossError("state: is damaged: the checksum does not match");
  }

  // From here on a fault is a faulty writer's.
  Reader reader(bytes.substr(kHeader, length));
  State state;
  bool ascending = true;
  state.schema_ = reader.String();
  const auto classes = reader.Length(reader.Number<std::uint32_t>(), 4);
  for (std::uint64_t i = 0; i < classes; ++i) state.classes_.push_back(reader.String());
  const auto shards = reader.Length(reader.Number<std::uint32_t>(), 4);
  for (std::uint64_t i = 0; i < shards; ++i) {
    std::string shard = reader.String();
    if (!state.shards_.empty() && shard <= *state.shards_.rbegin()) ascending = false;
    state.shards_.insert(std::move(shard));
  }
  ReadMap(reader, ExactSum::kBytes, state.sums_, ascending, [](Reader& from) {
    std::array<char, ExactSum::kBytes> sum{};
    const std::string_view in = from.Bytes(sum.size());
    std::memcpy(sum.data(), in.data(), in.size());
    return ExactSum::FromBytes(sum);
  });
  ReadMap(reader, sizeof(std::int64_t), state.counts_, ascending,
          [](Reader& from) { return from.Number<std::int64_t>(); });
  if (!reader.ok() || !reader.at_end() || !ascending) {
    return absl::DataLossError("state: the payload is malformed");
  }
  return state;
}

}  // namespace softloss::annotation
