#include "tests/testing/http2_connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace softloss::testing {
namespace {

enum FrameType : std::uint8_t {
  kData = 0,
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
};
constexpr std::uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
constexpr std::uint16_t kInitialWindowSize = 4;
constexpr std::size_t kFrameHead = 9, kGrpcPrefix = 5;

std::string BigEndian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}

std::uint64_t FromBigEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<std::uint8_t>(c);
  return value;
}

// A literal that the peer's table need not remember (RFC 7541 6.2.2), shorter than 127 bytes.
std::string Header(std::string_view name, std::string_view value) {
  std::string out(1, '\0');
  for (const std::string_view text : {name, value}) {
    out += static_cast<char>(text.size());
    out += text;
  }
  return out;
}

}  // namespace

Http2Connection::Http2Connection(const std::string& address, std::uint32_t window) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    throw std::runtime_error(std::strerror(errno));
  }
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  if (send(fd_, kPreface.data(), kPreface.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kPreface.size())) {
    throw std::runtime_error("no preface");
  }
  Frame(kSettings, 0, 0, BigEndian(kInitialWindowSize, 2) + BigEndian(window, 4));
  if (window > kSmallestWindow) Frame(kWindowUpdate, 0, 0, BigEndian(window - kSmallestWindow, 4));
}

Http2Connection::~Http2Connection() { close(fd_); }

std::uint32_t Http2Connection::Begin(std::string_view method, bool end) {
  const std::uint32_t stream = next_stream_;
  next_stream_ += 2;
  Frame(kHeaders, static_cast<std::uint8_t>(kEndHeaders | (end ? kEndStream : 0)), stream,
        Header(":method", "POST") + Header(":scheme", "http") + Header(":path", method) +
            Header(":authority", "localhost") + Header("content-type", "application/grpc") +
            Header("te", "trailers"));
  return stream;
}

void Http2Connection::Send(std::uint32_t stream, std::string_view bytes, bool end) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  while (Allowed(stream) < size && !ended(stream)) ReadFrame();
  if (ended(stream)) return;
  connection_allows_ -= size;
  stream_allows_[stream] -= size;
  Frame(kData, end ? kEndStream : 0, stream, bytes);
}

void Http2Connection::Reset(std::uint32_t stream) {
  constexpr std::uint32_t kCancel = 8;
  Frame(kResetStream, 0, stream, BigEndian(kCancel, 4));
}

std::int64_t Http2Connection::Allowed(std::uint32_t stream) const {
  const auto found = stream_allows_.find(stream);
  const std::int64_t more = found == stream_allows_.end() ? 0 : found->second;
  return std::min(connection_allows_, stream_begins_with_ + more);
}

std::size_t Http2Connection::MessageSize(std::string_view received) {
  if (received.size() < kGrpcPrefix) return 0;
  const std::size_t size = kGrpcPrefix + FromBigEndian(received.substr(1, 4));
  return received.size() < size ? 0 : size;
}

std::string Http2Connection::Message(std::uint32_t stream) {
  std::string& bytes = received_[stream];
  while (MessageSize(bytes) == 0) {
    if (ended(stream)) throw std::runtime_error("the call ended");
    ReadFrame();
  }
  const std::size_t size = MessageSize(bytes);
  std::string message = bytes.substr(kGrpcPrefix, size - kGrpcPrefix);
  bytes.erase(0, size);
  return message;
}

bool Http2Connection::HasMessage(std::uint32_t stream) {
  TakeArrived();
  return MessageSize(received_[stream]) > 0;
}

void Http2Connection::Forget(std::uint32_t stream) {
  stream_allows_.erase(stream);
  received_.erase(stream);
  ended_.erase(stream);
}

void Http2Connection::AwaitEnd(std::uint32_t stream) {
  while (!ended(stream)) ReadFrame();
}

void Http2Connection::TakeArrived() {
  pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
  while (poll(&ready, 1, 0) > 0) ReadFrame();
}

std::string Http2Connection::Framed(std::string_view message) {
  return std::string(1, '\0') + BigEndian(message.size(), 4) + std::string(message);
}

void Http2Connection::Frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
                            std::string_view payload) {
  std::string bytes = BigEndian(payload.size(), 3) + BigEndian(type, 1) + BigEndian(flags, 1) +
                      BigEndian(stream, 4) + std::string(payload);
  for (std::string_view left = bytes; !left.empty();) {
    const ssize_t n = send(fd_, left.data(), left.size(), MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("the connection is broken");
    left.remove_prefix(static_cast<std::size_t>(n));
  }
}

void Http2Connection::ReadFrame() {
  const std::string head = ReadBytes(kFrameHead);
  const std::string_view view = head;
  const std::string payload = ReadBytes(FromBigEndian(view.substr(0, 3)));
  const auto type = static_cast<std::uint8_t>(head[3]), flags = static_cast<std::uint8_t>(head[4]);
  const auto stream = static_cast<std::uint32_t>(FromBigEndian(view.substr(5, 4)));
  switch (type) {
    case kData: received_[stream] += payload; break;
    case kResetStream: ended_.insert(stream); break;
    case kSettings:
      if (flags & kAck) break;
      OnSettings(payload);
      Frame(kSettings, kAck, 0, "");
      break;
    case kPing:
      if (!(flags & kAck)) Frame(kPing, kAck, 0, payload);
      break;
    case kGoAway: throw std::runtime_error("the server closes the connection: " + payload);
    case kWindowUpdate:
      (stream == 0 ? connection_allows_ : stream_allows_[stream]) +=
          static_cast<std::int64_t>(FromBigEndian(payload));
      break;
    default: break;
  }
  if ((type == kData || type == kHeaders) && (flags & kEndStream)) ended_.insert(stream);
}

void Http2Connection::OnSettings(std::string_view payload) {
  for (; payload.size() >= 6; payload.remove_prefix(6)) {
    if (FromBigEndian(payload.substr(0, 2)) != kInitialWindowSize) continue;
    stream_begins_with_ = static_cast<std::int64_t>(FromBigEndian(payload.substr(2, 4)));
  }
}

std::string Http2Connection::ReadBytes(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t have = 0; have < size;) {
    const ssize_t n = recv(fd_, &bytes[have], size - have, 0);
    if (n <= 0) throw std::runtime_error("the connection is gone");
    have += static_cast<std::size_t>(n);
  }
  return bytes;
}

}  // namespace softloss::testing
