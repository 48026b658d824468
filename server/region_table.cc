#include "server/region_table.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status UnknownSession() {
  return absl::NotFoundError(
      "item.shared_memory_session: must be that of an open connection to the server's "
      "shared_memory_socket; was another");
}

// `used` + `more` ≤ `limit`, without overflow.
bool Fits(std::int64_t used, std::uint64_t more, std::int64_t limit) {
  return used <= limit && more <= static_cast<std::uint64_t>(limit - used);
}

}  // namespace

void Region::Charge(std::shared_ptr<RegionUsage> usage) {
  usage->regions.fetch_add(1, std::memory_order_relaxed);
  usage->bytes.fetch_add(static_cast<std::int64_t>(size_), std::memory_order_relaxed);
  for (std::shared_ptr<RegionUsage>& slot : usage_) {
    if (slot == nullptr) {
      slot = std::move(usage);
      return;
    }
  }
}

Region::~Region() {
  memory_.reset();  // before its room is given to others
  for (const std::shared_ptr<RegionUsage>& usage : usage_) {
    if (usage == nullptr) continue;
    usage->regions.fetch_sub(1, std::memory_order_relaxed);
    usage->bytes.fetch_sub(static_cast<std::int64_t>(size_), std::memory_order_relaxed);
  }
}

absl::Status RegionTable::Open(const std::string& session, const std::string& tenant) {
  std::lock_guard lock(mutex_);
  if (sessions_.contains(session)) return absl::AlreadyExistsError("session: the name is in use");
  if (static_cast<std::int64_t>(sessions_.size()) >= limits_.sessions) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "session: a server shares memory with at most ", limits_.sessions, " clients at once"));
  }
  std::erase_if(tenants_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<RegionUsage>& known = tenants_[tenant];
  std::shared_ptr<RegionUsage> usage = known.lock();
  if (usage == nullptr) known = usage = std::make_shared<RegionUsage>();
  if (usage->sessions >= limits_.tenant_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("session: a server shares memory with at most ", limits_.tenant_sessions,
                     " clients of tenant '", tenant, "' at once"));
  }
  ++usage->sessions;
  Session& opened = sessions_[session];
  opened.own = std::make_shared<RegionUsage>();
  opened.tenant = std::move(usage);
  opened.tenant_name = tenant;
  return absl::OkStatus();
}

void RegionTable::Close(const std::string& session) {
  Session closed;  // unmaps after the lock is gone
  std::lock_guard lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return;
  closed = std::move(it->second);
  --closed.tenant->sessions;
  sessions_.erase(it);
}

absl::StatusOr<std::shared_ptr<Region>> RegionTable::Reserve(const Session& session,
                                                             std::uint64_t size) const {
  const struct {
    const char* name;
    std::int64_t used;
    std::uint64_t more;
    std::int64_t limit;
  } rules[] = {
      {"shared_memory_session_regions", session.own->regions, 1, limits_.session_regions},
      {"shared_memory_tenant_regions", session.tenant->regions, 1, limits_.tenant_regions},
      {"shared_memory_session_bytes", session.own->bytes, size, limits_.session_bytes},
      {"shared_memory_tenant_bytes", session.tenant->bytes, size, limits_.tenant_bytes},
  };
  for (const auto& rule : rules) {
    if (Fits(rule.used, rule.more, rule.limit)) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("register_region.length: ", rule.name, " of tenant '", session.tenant_name,
                     "' is ", rule.limit, ", in use ", rule.used, "; asked for ", rule.more));
  }
  std::shared_ptr<Region> region(new Region(size));
  region->Charge(session.own);
  region->Charge(session.tenant);
  region->Charge(all_);
  return region;
}

absl::StatusOr<std::uint64_t> RegionTable::Register(const std::string& session, std::uint64_t size,
                                                    Map map) {
  if (size == 0) {
    return absl::InvalidArgumentError("register_region.length: must be at least 1; was 0");
  }
  std::shared_ptr<Region> region;
  {
    std::lock_guard lock(mutex_);
    const auto it = sessions_.find(session);
    if (it == sessions_.end()) return UnknownSession();
    absl::StatusOr<std::shared_ptr<Region>> reserved = Reserve(it->second, size);
    if (!reserved.ok()) return reserved.status();
    region = *std::move(reserved);
  }
  absl::StatusOr<std::shared_ptr<std::byte>> memory = map();
  if (!memory.ok()) return memory.status();
  region->memory_ = *std::move(memory);

  std::lock_guard lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return UnknownSession();
  const std::uint64_t number = it->second.next_region++;
  it->second.regions.emplace(number, std::move(region));
  return number;
}

absl::Status RegionTable::Free(const std::string& session, std::uint64_t region) {
  std::shared_ptr<const Region> freed;  // unmaps after the lock is gone
  std::lock_guard lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return UnknownSession();
  const auto found = it->second.regions.find(region);
  if (found == it->second.regions.end()) {
    return absl::NotFoundError(
        absl::StrCat("free_region.region: ", region, " is not registered in this session"));
  }
  freed = std::move(found->second);
  it->second.regions.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<RegionRange> RegionTable::Find(const std::string& session, absl::string_view field,
                                              std::uint64_t region, std::uint64_t offset,
                                              std::uint64_t length) const {
  std::lock_guard lock(mutex_);
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return UnknownSession();
  const auto found = it->second.regions.find(region);
  if (found == it->second.regions.end()) {
    return absl::NotFoundError(
        absl::StrCat(field, ".region: ", region, " is not registered in this session"));
  }
  const std::shared_ptr<const Region>& known = found->second;
  if (offset > known->size() || length > known->size() - offset) {
    return absl::OutOfRangeError(absl::StrCat(field, ".offset: offset and length must be within ",
                                              known->size(), " bytes, region ", region, "; were ",
                                              offset, " and ", length));
  }
  return RegionRange{known, known->data() + offset, static_cast<std::size_t>(length)};
}

std::int64_t RegionTable::sessions() const {
  std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(sessions_.size());
}

}  // namespace softloss
