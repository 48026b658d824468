#include "server/byte_budget.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

ByteBudget::Options Resolve(ByteBudget::Options options) {
  if (options.tenant_bytes <= 0 || options.tenant_bytes > options.global_bytes) {
    options.tenant_bytes = options.global_bytes;
  }
  return options;
}

// Adds `bytes` unless that would exceed `limit`: the counter never does, even for a moment.
bool TryAdd(std::atomic<std::int64_t>& counter, std::int64_t bytes, std::int64_t limit) {
  std::int64_t used = counter.load(std::memory_order_relaxed);
  do {
    if (bytes > limit - used) return false;
  } while (!counter.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

}  // namespace

ByteBudget::Charge::Charge(Charge&& other) noexcept
    : tenant_(std::move(other.tenant_)), bytes_(std::exchange(other.bytes_, 0)) {}

ByteBudget::Charge& ByteBudget::Charge::operator=(Charge&& other) noexcept {
  if (this != &other) {
    ReduceTo(0);
    tenant_ = std::move(other.tenant_);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void ByteBudget::Charge::ReduceTo(std::int64_t bytes) {
  const std::int64_t returned = bytes_ - bytes;
  if (returned <= 0) return;
  bytes_ = bytes;
  tenant_->used_.fetch_sub(returned, std::memory_order_relaxed);
  tenant_->global_->used.fetch_sub(returned, std::memory_order_relaxed);
}

ByteBudget::Charge ByteBudget::Charge::Split(std::int64_t bytes) {
  bytes = std::min(bytes, bytes_);
  bytes_ -= bytes;
  return Charge(tenant_, bytes);
}

ByteBudget::ByteBudget(Options options)
    : options_(Resolve(options)),
      global_(std::make_shared<Counter>()),
      other_(new Tenant("other", global_)) {}

std::shared_ptr<ByteBudget::Tenant> ByteBudget::FindTenant(std::string_view name) {
  if (name == other_->name()) return other_;
  std::lock_guard lock(mutex_);
  auto it = tenants_.find(name);
  if (it != tenants_.end()) {
    if (std::shared_ptr<Tenant> tenant = it->second.lock()) return tenant;
  } else if (tenants_.size() >= kMaxTenants) {
    std::erase_if(tenants_, [](const auto& entry) { return entry.second.expired(); });
    if (tenants_.size() >= kMaxTenants) return other_;
  }
  std::shared_ptr<Tenant> tenant(new Tenant(std::string(name), global_));
  tenants_.insert_or_assign(std::string(name), tenant);
  return tenant;
}

absl::StatusOr<ByteBudget::Charge> ByteBudget::Acquire(const std::shared_ptr<Tenant>& tenant,
                                                       std::int64_t bytes) {
  if (!TryAdd(tenant->used_, bytes, options_.tenant_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tenant '", tenant->name(), "': tenant_budget_bytes is ",
                     options_.tenant_bytes, ", in use ", tenant->used(), "; asked for ", bytes));
  }
  if (!TryAdd(global_->used, bytes, options_.global_bytes)) {
    tenant->used_.fetch_sub(bytes, std::memory_order_relaxed);
    return absl::UnavailableError(absl::StrCat("tenant '", tenant->name(),
                                               "': global_budget_bytes is ", options_.global_bytes,
                                               ", in use ", used(), "; asked for ", bytes));
  }
  return Charge(tenant, bytes);
}

std::int64_t ByteBudget::used() const { return global_->used.load(std::memory_order_relaxed); }

}  // namespace softloss
