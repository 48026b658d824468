// A client of the side socket that says whatever it is told to.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "softloss/v1/shared_memory.pb.h"

namespace softloss::testing {

class MemoryPeer {
 public:
  // Connects, and takes the greeting.
  explicit MemoryPeer(const std::string& path) : fd_(socket(AF_UNIX, SOCK_SEQPACKET, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
        << std::strerror(errno);
    if (const auto greeting = Receive()) greeting_ = *greeting;
  }
  ~MemoryPeer() { Close(); }
  MemoryPeer(const MemoryPeer&) = delete;
  MemoryPeer& operator=(const MemoryPeer&) = delete;

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  const v1::SharedMemoryReply& greeting() const { return greeting_; }
  const std::string& session() const { return greeting_.session(); }

  void SendBytes(const std::string& packet, const std::vector<int>& fds = {}) {
    iovec bytes{const_cast<char*>(packet.data()), packet.size()};
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
    }
    EXPECT_EQ(sendmsg(fd_, &message, MSG_NOSIGNAL), static_cast<ssize_t>(packet.size()));
  }

  // False once the server has ended the connection; waits while it is only slow.
  bool TrySend(const std::string& packet) {
    return send(fd_, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0;
  }

  // The next reply; none if the connection has ended.
  std::optional<v1::SharedMemoryReply> Receive() {
    char packet[4096];
    const ssize_t size = recv(fd_, packet, sizeof(packet), 0);
    v1::SharedMemoryReply reply;
    if (size <= 0 || !reply.ParseFromArray(packet, static_cast<int>(size))) return std::nullopt;
    return reply;
  }

  v1::SharedMemoryReply Ask(const v1::SharedMemoryRequest& request,
                            const std::vector<int>& fds = {}) {
    SendBytes(request.SerializeAsString(), fds);
    const auto reply = Receive();
    EXPECT_TRUE(reply.has_value()) << "the connection ended";
    return reply.value_or(v1::SharedMemoryReply());
  }

  v1::SharedMemoryReply Register(int fd, std::uint64_t length) {
    v1::SharedMemoryRequest request;
    request.mutable_register_region()->set_length(length);
    return Ask(request, {fd});
  }

  v1::SharedMemoryReply Free(std::uint64_t region) {
    v1::SharedMemoryRequest request;
    request.mutable_free_region()->set_region(region);
    return Ask(request);
  }

 private:
  int fd_;
  v1::SharedMemoryReply greeting_;
};

}  // namespace softloss::testing
