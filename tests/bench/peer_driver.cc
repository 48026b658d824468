#include "tests/bench/peer_driver.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/bench/drawn_rows.h"

namespace softloss {
namespace {

[[noreturn]] void Die(const char* why) {
  std::fprintf(stderr, "peer driver: %s\n", why);
  std::exit(1);
}

}  // namespace

PeerDriver::PeerDriver(const std::string& address)
    : channel_([&] {
        grpc::ChannelArguments arguments;
        arguments.SetMaxReceiveMessageSize(-1);
        return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
      }()),
      stub_(channel_),
      stream_(stub_.PrepareCall(&context_, "/peer.Scorer/Stream", &queue_)) {
  stream_->StartCall(Pointer(kStarted));
  if (Next() != kStarted) Die("no stream");
  stream_->Read(&incoming_, Pointer(kRead));
}

PeerDriver::~PeerDriver() {
  context_.TryCancel();
  grpc::Status status;
  stream_->Finish(&status, Pointer(kFinished));
  queue_.Shutdown();
  void* tag;
  bool ok;
  while (queue_.Next(&tag, &ok)) {
  }
}

PeerDriver::Tag PeerDriver::Next() {
  void* tag = nullptr;
  bool ok = false;
  if (!queue_.Next(&tag, &ok) || !ok) Die("the stream ended early");
  return static_cast<Tag>(reinterpret_cast<std::intptr_t>(tag));
}

double PeerDriver::Run(const Workload& workload, std::int64_t items) {
  const std::int64_t bytes = workload.item_bytes / 2;  // of a tensor
  const DrawnRows drawn = DrawRows(bytes / (4 * Workload::kClasses), Workload::kClasses);
  const std::uint32_t head[2] = {static_cast<std::uint32_t>(drawn.rows), Workload::kClasses};
  const grpc::Slice slices[] = {grpc::Slice(head, sizeof head),
                                grpc::Slice(drawn.logits.data(), static_cast<std::size_t>(bytes)),
                                grpc::Slice(drawn.labels.data(), static_cast<std::size_t>(bytes))};
  const grpc::ByteBuffer message(slices, 3);

  std::int64_t sent = 0, answered = 0;
  bool writing = false;
  const auto start = std::chrono::steady_clock::now();
  while (answered < items || writing) {
    if (!writing && sent < items && sent - answered < workload.in_flight) {
      stream_->Write(message, Pointer(kWritten));
      writing = true;
      ++sent;
    }
    switch (Next()) {
      case kWritten: writing = false; break;
      case kRead:
        if (static_cast<std::int64_t>(incoming_.Length()) != 8 + bytes)
          Die("a reply of another size");
        ++answered;
        stream_->Read(&incoming_, Pointer(kRead));
        break;
      default: Die("an unexpected event");
    }
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace softloss
