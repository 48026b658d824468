#include "client/cpp/memory_share.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace softloss::internal {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPoolGrain = 64 << 10;
// Kept for gradients to come; more is handed back.
constexpr std::size_t kPoolBytes = std::size_t{256} << 20;

absl::Status SystemError(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

std::size_t RoundUp(std::size_t size, std::size_t grain) {
  return (size + grain - 1) / grain * grain;
}

// Whether the host has `size` bytes to spare: the kernel would find out by giving all it has.
bool HostHas(std::size_t size) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (std::size_t kib = 0; file >> name >> kib; std::getline(file, unit)) {
    if (name == "MemAvailable:") return size / 1024 <= kib;
  }
  return true;
}

// A file in memory that keeps its size for ever, with all its pages; -1 if there is no room.
int SealedFile(std::size_t size) {
  if (!HostHas(size)) {
    errno = ENOMEM;
    return -1;
  }
  const int fd = memfd_create("softloss", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  // Pages that could not be had later would be a SIGBUS then.
  if (ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

void Fill(const Placement& from, std::uint64_t region, v1::SharedMemory* to) {
  to->set_region(region);
  to->set_offset(from.offset);
  to->set_length(from.length);
}

}  // namespace

Region::~Region() {
  if (const std::shared_ptr<MemoryShare> share = share_.lock()) share->Forget(*this);
  munmap(data_, size_);
  close(fd_);
}

absl::Status Region::status() const {
  const std::shared_ptr<MemoryShare> share = share_.lock();
  if (share == nullptr) return absl::CancelledError("the client was destroyed");
  std::lock_guard lock(share->mutex_);
  return status_;
}

MemoryShare::~MemoryShare() {
  if (connection_ >= 0) close(connection_);
}

void MemoryShare::Greeted(const std::string& socket) {
  std::lock_guard lock(mutex_);
  if (socket == socket_ && Alive()) return;
  socket_ = socket;
  if (socket.empty()) {
    Disconnect(absl::UnimplementedError("the server shares no memory with this client"));
  } else {
    Disconnect(absl::UnavailableError("not connected"));
    if (!regions_.empty()) Connect();
  }
}

absl::StatusOr<std::shared_ptr<Region>> MemoryShare::Allocate(std::size_t size) {
  const std::size_t bytes = RoundUp(std::max<std::size_t>(size, 1), kPage);
  const int fd = bytes < size ? -1 : SealedFile(bytes);
  void* const data =
      fd < 0 ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    if (fd >= 0) close(fd);
    return absl::ResourceExhaustedError(
        absl::StrCat("allocate: no shared memory of ", size, " bytes: ", std::strerror(errno)));
  }
  auto region =
      std::make_shared<Region>(fd, static_cast<std::byte*>(data), bytes, weak_from_this());
  std::lock_guard lock(mutex_);
  if (!socket_.empty() && !Alive()) Connect();
  regions_.emplace(region->data(), region.get());
  Register(*region);
  return region;
}

Buffer MemoryShare::Lease(std::size_t size) {
  std::shared_ptr<Region> region;
  {
    std::lock_guard lock(mutex_);
    const auto it = pool_.lower_bound(size);
    if (it != pool_.end() && it->first <= 2 * size + kPoolGrain) {
      region = std::move(it->second);
      pool_bytes_ -= it->first;
      pool_.erase(it);
    }
  }
  if (region == nullptr) {
    absl::StatusOr<std::shared_ptr<Region>> made = Allocate(RoundUp(size, kPoolGrain));
    if (!made.ok()) return Buffer();
    region = *std::move(made);
  }
  std::byte* const data = region->data();
  return Buffer(
      std::shared_ptr<void>(data,
                            [region = std::move(region), share = weak_from_this()](void*) mutable {
                              if (const auto alive = share.lock()) {
                                alive->Return(std::move(region));
                              }
                            }),
      size);
}

void MemoryShare::Return(std::shared_ptr<Region> region) {
  std::lock_guard lock(mutex_);
  const std::size_t size = region->size();
  if (pool_bytes_ + size > kPoolBytes) return;  // destroyed after the lock is gone
  pool_bytes_ += size;
  pool_.emplace(size, std::move(region));
}

Placement MemoryShare::Find(const void* data, std::uint64_t size) const {
  const auto* const begin = static_cast<const std::byte*>(data);
  std::lock_guard lock(mutex_);
  auto it = regions_.upper_bound(begin);
  if (it == regions_.begin()) return {};
  Region& candidate = *(--it)->second;
  const auto offset = static_cast<std::uint64_t>(begin - candidate.data());
  if (offset > candidate.size() || size > candidate.size() - offset) return {};
  return {candidate.weak_from_this().lock(), offset, size};
}

bool MemoryShare::Describe(const Placement& prediction, const Placement& label,
                           const Placement& gradient, v1::Item* item) const {
  std::lock_guard lock(mutex_);
  if (prediction.region->number_ == 0 || label.region->number_ == 0 ||
      (gradient && gradient.region->number_ == 0)) {
    return false;
  }
  item->set_shared_memory_session(session_);
  Fill(prediction, prediction.region->number_, item->mutable_prediction_memory());
  Fill(label, label.region->number_, item->mutable_label_memory());
  if (gradient) Fill(gradient, gradient.region->number_, item->mutable_gradient_memory());
  return true;
}

void MemoryShare::Forget(Region& region) {
  std::lock_guard lock(mutex_);
  regions_.erase(region.data());
  if (region.number_ == 0) return;
  v1::SharedMemoryRequest request;
  request.mutable_free_region()->set_region(region.number_);
  (void)Ask(request, -1);  // a server that does not know it has nothing to free
}

// ---- With mutex_ held ----

bool MemoryShare::Alive() const {
  if (connection_ < 0) return false;
  char byte;
  // Nothing is sent unasked, so there is nothing to read but the end.
  return recv(connection_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

void MemoryShare::Connect() {
  Disconnect(absl::UnavailableError("not connected"));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof(address.sun_path)) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("shared_memory_socket: the path is too long: ", socket_));
  } else {
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    connection_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const timeval limit = absl::ToTimeval(timeout_);
    setsockopt(connection_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(connection_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(connection_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      Disconnect(SystemError(socket_));
    } else if (absl::StatusOr<v1::SharedMemoryReply> greeting = Receive(); greeting.ok()) {
      session_ = greeting->session();
      status_ = absl::OkStatus();
    }
  }
  for (const auto& [data, region] : regions_) Register(*region);
}

void MemoryShare::Disconnect(const absl::Status& why) {
  if (connection_ >= 0) close(connection_);
  connection_ = -1;
  session_.clear();
  status_ = why;
  for (const auto& [data, region] : regions_) {
    region->number_ = 0;
    region->status_ = why;
  }
}

void MemoryShare::Register(Region& region) {
  if (!status_.ok()) {
    region.status_ = status_;
    return;
  }
  v1::SharedMemoryRequest request;
  request.mutable_register_region()->set_length(region.size());
  const absl::StatusOr<v1::SharedMemoryReply> reply = Ask(request, region.fd_);
  region.status_ = reply.status();
  region.number_ = reply.ok() ? reply->region() : 0;
}

absl::StatusOr<v1::SharedMemoryReply> MemoryShare::Ask(const v1::SharedMemoryRequest& request,
                                                       int fd) {
  const std::string packet = request.SerializeAsString();
  iovec bytes{const_cast<char*>(packet.data()), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd, sizeof(int));
  }
  if (sendmsg(connection_, &message, MSG_NOSIGNAL) < 0) {
    const absl::Status why = SystemError(socket_);
    Disconnect(why);
    return why;
  }
  return Receive();
}

// One reply; without one the connection is given up. A refusal is its error.
absl::StatusOr<v1::SharedMemoryReply> MemoryShare::Receive() {
  char packet[4096];
  const ssize_t size = recv(connection_, packet, sizeof(packet), 0);
  v1::SharedMemoryReply reply;
  if (size <= 0 || !reply.ParseFromArray(packet, static_cast<int>(size))) {
    const absl::Status why =
        size < 0 ? SystemError(socket_) : absl::UnavailableError("the server closed its socket");
    Disconnect(why);
    return why;
  }
  if (!reply.has_error()) return reply;
  const absl::Status why(static_cast<absl::StatusCode>(reply.error().code()),
                         reply.error().message());
  if (session_.empty()) Disconnect(why);  // there was no session
  return why;
}

}  // namespace softloss::internal
