// HTTP/2 by hand (RFC 9113), as far as gRPC calls need it: cut messages anywhere, do not read, never end,
// reset. No client library can be made to.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace softloss::testing {

// Not thread-safe. What fails on the connection is thrown as std::runtime_error.
class Http2Connection {
 public:
  // What the server may send before this side has read it, for the connection and for each stream.
  static constexpr std::uint32_t kSmallestWindow = 65535;  // the protocol's own, for the connection
  static constexpr std::uint32_t kLargestWindow = (1u << 31) - 1;

  // `address` is "127.0.0.1:PORT".
  explicit Http2Connection(const std::string& address, std::uint32_t window = kLargestWindow);
  ~Http2Connection();
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  // Begins a gRPC call of "/package.Service/Method" and returns its stream. `end`: with no message.
  std::uint32_t Begin(std::string_view method, bool end = false);
  // Sends bytes of the call's messages as one DATA frame, at most 16 KiB; first waits until the server
  // allows that much. `end` half-closes. Once the server has ended the call, nothing is sent.
  void Send(std::uint32_t stream, std::string_view bytes, bool end = false);
  void Reset(std::uint32_t stream);
  // How many bytes the server allows at present.
  std::int64_t Allowed(std::uint32_t stream) const;

  // The next message of the call, without gRPC's prefix. Blocks.
  std::string Message(std::uint32_t stream);
  // Whether it has arrived. Does not block.
  bool HasMessage(std::uint32_t stream);
  // Drops what is kept of a call.
  void Forget(std::uint32_t stream);
  // Whether the server has ended the call (or refused it).
  bool ended(std::uint32_t stream) const { return ended_.count(stream) > 0; }
  // Blocks until it has.
  void AwaitEnd(std::uint32_t stream);
  // Takes in what has arrived; does not block.
  void TakeArrived();

  // A gRPC message: its prefix and its bytes.
  static std::string Framed(std::string_view message);

 private:
  void Frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload);
  void ReadFrame();
  void OnSettings(std::string_view payload);
  std::string ReadBytes(std::size_t size);
  // Of the first message, prefix included; 0 if not all of it is there.
  static std::size_t MessageSize(std::string_view received);

  int fd_ = -1;
  std::uint32_t next_stream_ = 1;
  std::int64_t connection_allows_ = 65535;
  std::int64_t stream_begins_with_ = 65535;
  std::map<std::uint32_t, std::int64_t> stream_allows_;  // beyond stream_begins_with_
  std::map<std::uint32_t, std::string> received_;        // DATA not taken yet
  std::set<std::uint32_t> ended_;
};

}  // namespace softloss::testing
