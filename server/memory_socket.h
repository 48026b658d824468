// The side socket of softloss/v1/shared_memory.proto: takes descriptors of memory from clients on this
// host. One thread serves them all; what is allowed is RegionTable's to say.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/region_table.h"
#include "softloss/v1/shared_memory.pb.h"

namespace softloss {

class Metrics;

// A file descriptor that is closed in the end.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

class MemorySocket {
 public:
  // Listens at `path`, in place of a socket that was left there. Both outlive the socket. UNAVAILABLE
  // says what the system refused.
  static absl::StatusOr<std::unique_ptr<MemorySocket>> Listen(const std::string& path,
                                                              RegionTable* regions,
                                                              Metrics* metrics);
  // Frees all regions; those in use stay mapped until their items are answered.
  ~MemorySocket();
  MemorySocket(const MemorySocket&) = delete;
  MemorySocket& operator=(const MemorySocket&) = delete;

  const std::string& path() const { return path_; }

 private:
  struct Peer {
    UniqueFd socket;
    std::string session;
    std::string tenant;
  };

  MemorySocket(std::string path, RegionTable* regions, Metrics* metrics)
      : path_(std::move(path)), regions_(regions), metrics_(metrics) {}

  // The thread's own.
  void Run();
  void Accept();
  // One packet. False if the connection is over.
  bool Serve(const Peer& peer);
  absl::Status Handle(const Peer& peer, const v1::SharedMemoryRequest& request,
                      const std::vector<UniqueFd>& received, v1::SharedMemoryReply* reply);
  bool Send(const Peer& peer, const v1::SharedMemoryReply& reply) const;
  void Refuse(const Peer& peer, const absl::Status& why, v1::SharedMemoryReply* reply);

  const std::string path_;
  RegionTable* const regions_;
  Metrics* const metrics_;
  UniqueFd listener_;
  UniqueFd stop_;                         // an eventfd
  std::uint64_t device_ = 0, inode_ = 0;  // of the socket's name
  std::vector<Peer> peers_;
  bool full_ = false;  // out of descriptors: no accepting until the next pause
  std::thread thread_;
};

}  // namespace softloss
