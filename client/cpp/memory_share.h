// Memory that the client shares with a server on its host: regions, where they are registered, and a
// pool of those that gradients come back in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "softloss/client.h"
#include "softloss/v1/shared_memory.pb.h"

namespace softloss::internal {

class MemoryShare;

// A sealed memfd, mapped; made by MemoryShare::Allocate.
class Region : public std::enable_shared_from_this<Region> {
 public:
  // Takes over `fd` and the mapping.
  Region(int fd, std::byte* data, std::size_t size, std::weak_ptr<MemoryShare> share)
      : fd_(fd), data_(data), size_(size), share_(std::move(share)) {}
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  // OK while the server has it; otherwise why not.
  absl::Status status() const;

 private:
  friend class MemoryShare;

  const int fd_;
  std::byte* const data_;
  const std::size_t size_;
  const std::weak_ptr<MemoryShare> share_;
  // Guarded by the share's mutex.
  std::uint64_t number_ = 0;  // with the server; 0: it is not registered there
  absl::Status status_;
};

// Where a tensor lies. Keeps its region.
struct Placement {
  std::shared_ptr<Region> region;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  explicit operator bool() const { return region != nullptr; }
};

// Thread-safe. Calls that talk to the server's side socket hold the lock; it answers at once, or is
// given up after a timeout.
class MemoryShare : public std::enable_shared_from_this<MemoryShare> {
 public:
  explicit MemoryShare(absl::Duration timeout) : timeout_(timeout) {}
  ~MemoryShare();

  // A server has greeted, and named its socket (empty: it shares no memory). If the connection to it
  // is gone, makes a new one and registers every region there.
  void Greeted(const std::string& socket);

  // Regions that the server refuses are memory like any other. RESOURCE_EXHAUSTED if there is none.
  absl::StatusOr<std::shared_ptr<Region>> Allocate(std::size_t size);
  // Memory in a region, used or new, that goes back to the pool. Empty if there is none.
  Buffer Lease(std::size_t size);

  // Empty unless all of it lies in one region.
  Placement Find(const void* data, std::uint64_t size) const;

  // Says in `item` where the tensors are (`gradient` may be empty). False if not all of them are
  // registered at present.
  bool Describe(const Placement& prediction, const Placement& label, const Placement& gradient,
                v1::Item* item) const;

 private:
  friend class Region;

  void Forget(Region& region);
  void Return(std::shared_ptr<Region> region);

  // With mutex_ held.
  bool Alive() const;
  void Connect();
  void Disconnect(const absl::Status& why);
  void Register(Region& region);
  absl::StatusOr<v1::SharedMemoryReply> Ask(const v1::SharedMemoryRequest& request, int fd);
  absl::StatusOr<v1::SharedMemoryReply> Receive();

  const absl::Duration timeout_;
  mutable std::mutex mutex_;
  std::string socket_;   // as greeted
  int connection_ = -1;  // to it
  std::string session_;
  absl::Status status_ = absl::UnavailableError("not connected");  // without a connection: why
  std::map<const std::byte*, Region*> regions_;  // by where they begin; they leave when destroyed
  std::multimap<std::size_t, std::shared_ptr<Region>> pool_;  // by size
  std::size_t pool_bytes_ = 0;
};

}  // namespace softloss::internal
