#include "server/memory_socket.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/item.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/sealed_memory.h"

namespace softloss {
namespace {

constexpr std::size_t kMaxPacket = 1024;
constexpr int kMaxDescriptors = 4;  // of a packet; only one is ever right
constexpr std::size_t kSessionBytes = 16;
constexpr int kPauseMs = 100;  // after the process ran out of descriptors

absl::Status SystemError(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  return address;
}

std::vector<UniqueFd> DescriptorsOf(msghdr& message) {
  std::vector<UniqueFd> found;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      found.emplace_back(fd);
    }
  }
  return found;
}

std::string NewSession() {
  std::string session(kSessionBytes, '\0');
  std::size_t filled = 0;
  while (filled < session.size()) {
    const ssize_t n = getrandom(session.data() + filled, session.size() - filled, 0);
    if (n > 0) filled += static_cast<std::size_t>(n);
  }
  return session;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::unique_ptr<MemorySocket>> MemorySocket::Listen(const std::string& path,
                                                                   RegionTable* regions,
                                                                   Metrics* metrics) {
  std::unique_ptr<MemorySocket> server(new MemorySocket(path, regions, metrics));
  server->listener_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  server->stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!server->listener_.valid() || !server->stop_.valid()) return SystemError("socket");

  struct stat name;
  if (lstat(path.c_str(), &name) == 0 && S_ISSOCK(name.st_mode)) unlink(path.c_str());
  const sockaddr_un address = AddressOf(path);
  if (bind(server->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    return SystemError("bind");
  }
  if (lstat(path.c_str(), &name) == 0) {
    server->device_ = name.st_dev;
    server->inode_ = name.st_ino;
  }
  if (listen(server->listener_.get(), 64) != 0) return SystemError("listen");
  server->thread_ = std::thread([s = server.get()] { s->Run(); });
  return server;
}

MemorySocket::~MemorySocket() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    (void)!write(stop_.get(), &one, sizeof(one));
    thread_.join();
  }
  for (const Peer& peer : peers_) regions_->Close(peer.session);
  // Another server may have taken the name.
  struct stat name;
  if (inode_ != 0 && lstat(path_.c_str(), &name) == 0 && name.st_ino == inode_ &&
      name.st_dev == device_) {
    unlink(path_.c_str());
  }
}

void MemorySocket::Run() {
  pthread_setname_np(pthread_self(), "softloss-memory");
  std::vector<pollfd> polled;
  while (true) {
    polled.clear();
    polled.push_back({stop_.get(), POLLIN, 0});
    polled.push_back({listener_.get(), static_cast<short>(full_ ? 0 : POLLIN), 0});
    for (const Peer& peer : peers_) polled.push_back({peer.socket.get(), POLLIN, 0});
    const int ready = poll(polled.data(), polled.size(), full_ ? kPauseMs : -1);
    full_ = false;
    if (ready < 0) continue;  // a signal
    if (polled[0].revents != 0) return;
    // One packet each, so that nobody waits for one that floods.
    std::vector<Peer> staying;
    staying.reserve(peers_.size());
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      if (polled[i + 2].revents == 0 || Serve(peers_[i])) {
        staying.push_back(std::move(peers_[i]));
      } else {
        regions_->Close(peers_[i].session);
      }
    }
    peers_ = std::move(staying);
    if (polled[1].revents != 0) Accept();
  }
}

void MemorySocket::Accept() {
  Peer peer;
  peer.socket = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.socket.valid()) {
    full_ = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return;
  }
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(peer.socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return;
  peer.tenant = absl::StrCat("uid ", credentials.uid);
  peer.session = NewSession();
  v1::SharedMemoryReply greeting;
  const absl::Status opened = regions_->Open(peer.session, peer.tenant);
  if (!opened.ok()) {
    Refuse(peer, opened, &greeting);
    Send(peer, greeting);
    return;
  }
  greeting.set_session(peer.session);
  if (!Send(peer, greeting)) {
    regions_->Close(peer.session);
    return;
  }
  peers_.push_back(std::move(peer));
}

bool MemorySocket::Serve(const Peer& peer) {
  char packet[kMaxPacket];
  iovec bytes{packet, sizeof(packet)};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t size = recvmsg(peer.socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  const std::vector<UniqueFd> received = DescriptorsOf(message);
  if (size == 0) return false;

  v1::SharedMemoryRequest request;
  v1::SharedMemoryReply reply;
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
      !request.ParseFromArray(packet, static_cast<int>(size)) ||
      request.kind_case() == v1::SharedMemoryRequest::KIND_NOT_SET) {
    Refuse(peer,
           absl::InvalidArgumentError("malformed packet: must be a SharedMemoryRequest with at "
                                      "most one descriptor"),
           &reply);
    Send(peer, reply);
    return false;
  }
  const absl::Status status = Handle(peer, request, received, &reply);
  if (!status.ok()) Refuse(peer, status, &reply);
  return Send(peer, reply);
}

absl::Status MemorySocket::Handle(const Peer& peer, const v1::SharedMemoryRequest& request,
                                  const std::vector<UniqueFd>& received,
                                  v1::SharedMemoryReply* reply) {
  const std::size_t expected = request.has_register_region() ? 1 : 0;
  if (received.size() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(expected == 1 ? "register_region" : "free_region", ": must come with ",
                     expected, " descriptors; came with ", received.size()));
  }
  if (request.has_free_region()) {
    const std::uint64_t region = request.free_region().region();
    reply->set_region(region);
    return regions_->Free(peer.session, region);
  }
  const std::uint64_t length = request.register_region().length();
  const absl::StatusOr<std::uint64_t> region = regions_->Register(
      peer.session, length, [&] { return MapSealedMemory(received[0].get(), length); });
  if (!region.ok()) return region.status();
  reply->set_region(*region);
  return absl::OkStatus();
}

void MemorySocket::Refuse(const Peer& peer, const absl::Status& why, v1::SharedMemoryReply* reply) {
  metrics_->MemoryRefused(absl::IsResourceExhausted(why) ? MemoryRefusal::kLimit
                                                         : MemoryRefusal::kInvalid);
  Log(LogLevel::kDebug, absl::StrCat("shared memory of ", peer.tenant, ": ", why.ToString()));
  *reply->mutable_error() = ToItemError(why);
}

// A client that does not read its replies has no use for them.
bool MemorySocket::Send(const Peer& peer, const v1::SharedMemoryReply& reply) const {
  const std::string bytes = reply.SerializeAsString();
  // A packet without bytes would look like the end.
  return !bytes.empty() && send(peer.socket.get(), bytes.data(), bytes.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

}  // namespace softloss
