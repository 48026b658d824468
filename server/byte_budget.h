// Admission by bytes: what is in flight is charged before it is read, to its tenant and to the whole.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace softloss {

// Thread-safe. Acquire and release take no lock. Charges and tenants may outlive the budget.
class ByteBudget {
  struct Counter;

 public:
  struct Options {
    std::int64_t global_bytes = std::int64_t{1} << 30;
    std::int64_t tenant_bytes = 0;  // of one tenant; 0, or more than global_bytes: global_bytes
  };

  // Named tenants alive at once; further names share the tenant "other", so that names made up by
  // clients cannot use up memory.
  static constexpr std::size_t kMaxTenants = 1024;

  // One party's share. Known as long as somebody holds it.
  class Tenant {
   public:
    const std::string& name() const { return name_; }
    std::int64_t used() const { return used_.load(std::memory_order_relaxed); }

   private:
    friend class ByteBudget;
    Tenant(std::string name, std::shared_ptr<Counter> global)
        : name_(std::move(name)), global_(std::move(global)) {}

    const std::string name_;
    const std::shared_ptr<Counter> global_;
    std::atomic<std::int64_t> used_{0};
  };

  // Bytes held. Gives them back when destroyed.
  class Charge {
   public:
    Charge() = default;
    Charge(Charge&& other) noexcept;
    Charge& operator=(Charge&& other) noexcept;
    ~Charge() { ReduceTo(0); }

    std::int64_t bytes() const { return bytes_; }
    // Gives back all but `bytes`; no effect if it holds no more than that.
    void ReduceTo(std::int64_t bytes);
    // Moves `bytes` of it, or all if it holds less, to a charge of their own.
    Charge Split(std::int64_t bytes);

   private:
    friend class ByteBudget;
    Charge(std::shared_ptr<Tenant> tenant, std::int64_t bytes)
        : tenant_(std::move(tenant)), bytes_(bytes) {}

    std::shared_ptr<Tenant> tenant_;
    std::int64_t bytes_ = 0;
  };

  explicit ByteBudget(Options options);

  std::shared_ptr<Tenant> FindTenant(std::string_view name);

  // `bytes` ≥ 0; `tenant` comes from this budget. RESOURCE_EXHAUSTED if the tenant's share is full
  // (its own doing: it must wait for its replies); UNAVAILABLE if the global budget is (another
  // replica may have room). Both name the tenant, the rule and the bytes.
  absl::StatusOr<Charge> Acquire(const std::shared_ptr<Tenant>& tenant, std::int64_t bytes);

  std::int64_t used() const;
  std::int64_t limit() const { return options_.global_bytes; }
  std::int64_t tenant_limit() const { return options_.tenant_bytes; }

 private:
  struct Counter {
    std::atomic<std::int64_t> used{0};
  };

  const Options options_;
  const std::shared_ptr<Counter> global_;
  const std::shared_ptr<Tenant> other_;

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Tenant>, std::less<>> tenants_;  // guarded by mutex_
};

using Tenant = ByteBudget::Tenant;
using Charge = ByteBudget::Charge;

}  // namespace softloss
