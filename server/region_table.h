// Memory that clients share with the server: whose it is, how much, and which parts items may use.
// Policy alone: no sockets, no mapping (memory_socket.h does that).
//
// A session is one client's connection; its name is a secret that the client shows with each item. A
// region lives as long as somebody holds it: the table while it is registered, an item while it is in
// flight. Limits count regions until they are gone, not until they are freed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace softloss {

struct RegionLimits {
  std::int64_t sessions = 1024;  // at once, of all tenants
  std::int64_t tenant_sessions = 256;
  std::int64_t session_regions = 256;
  std::int64_t tenant_regions = 4096;
  std::int64_t session_bytes = std::int64_t{1} << 30;
  std::int64_t tenant_bytes = std::int64_t{4} << 30;
};

// What is held, by a session, a tenant or all.
struct RegionUsage {
  std::int64_t sessions = 0;  // of a tenant; under the table's lock
  std::atomic<std::int64_t> regions{0};
  std::atomic<std::int64_t> bytes{0};
};

class Region {
 public:
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::byte* data() const { return memory_.get(); }
  std::uint64_t size() const { return size_; }

 private:
  friend class RegionTable;
  explicit Region(std::uint64_t size) : size_(size) {}
  void Charge(std::shared_ptr<RegionUsage> usage);

  const std::uint64_t size_;
  std::shared_ptr<std::byte> memory_;
  std::shared_ptr<RegionUsage> usage_[3];
};

// A part of a region, which it keeps alive.
struct RegionRange {
  std::shared_ptr<const Region> region;
  std::byte* data = nullptr;
  std::size_t size = 0;

  explicit operator bool() const { return region != nullptr; }
  bool Overlaps(const RegionRange& other) const {
    return region == other.region && size > 0 && other.size > 0 && data < other.data + other.size &&
           other.data < data + size;
  }
};

// Thread-safe.
class RegionTable {
 public:
  using Map = absl::FunctionRef<absl::StatusOr<std::shared_ptr<std::byte>>()>;

  explicit RegionTable(const RegionLimits& limits)
      : limits_(limits), all_(std::make_shared<RegionUsage>()) {}

  // RESOURCE_EXHAUSTED if the tenant or all have too many sessions; ALREADY_EXISTS if the name is in
  // use.
  absl::Status Open(const std::string& session, const std::string& tenant);
  // Frees its regions. Unknown names are ignored.
  void Close(const std::string& session);

  // Calls `map` for the memory once the limits allow it; returns the region's number in the session.
  // INVALID_ARGUMENT for no bytes, RESOURCE_EXHAUSTED naming the limit, or what `map` says.
  absl::StatusOr<std::uint64_t> Register(const std::string& session, std::uint64_t size, Map map);
  // NOT_FOUND if it is not registered.
  absl::Status Free(const std::string& session, std::uint64_t region);

  // Errors start with `field`: NOT_FOUND (session or region) or OUT_OF_RANGE.
  absl::StatusOr<RegionRange> Find(const std::string& session, absl::string_view field,
                                   std::uint64_t region, std::uint64_t offset,
                                   std::uint64_t length) const;

  const RegionLimits& limits() const { return limits_; }
  std::int64_t sessions() const;
  std::int64_t regions() const { return all_->regions.load(std::memory_order_relaxed); }
  std::int64_t bytes() const { return all_->bytes.load(std::memory_order_relaxed); }

 private:
  struct Session {
    std::shared_ptr<RegionUsage> own;
    std::shared_ptr<RegionUsage> tenant;
    std::string tenant_name;
    std::uint64_t next_region = 1;
    absl::flat_hash_map<std::uint64_t, std::shared_ptr<const Region>> regions;
  };

  absl::StatusOr<std::shared_ptr<Region>> Reserve(const Session& session, std::uint64_t size) const;

  const RegionLimits limits_;
  const std::shared_ptr<RegionUsage> all_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, Session> sessions_;
  std::map<std::string, std::weak_ptr<RegionUsage>> tenants_;
};

}  // namespace softloss
