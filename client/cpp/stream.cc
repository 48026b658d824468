#include "client/cpp/stream.h"

#include <utility>

namespace softloss::internal {

Stream::Stream(std::shared_ptr<grpc::Channel> channel, grpc::CompletionQueue* queue, Events events)
    : channel_(std::move(channel)), events_(std::move(events)), stub_(channel_) {
  on_start_ = [this](bool ok) {
    --outstanding_;
    started_ = ok;
    ok ? Read() : Finish();
  };
  on_read_ = [this](bool ok) {
    --outstanding_;
    if (!ok) return Finish();
    grpc::ByteBuffer message;
    message.Swap(&incoming_);
    Read();
    events_.message(message);
  };
  on_write_ = [this](bool ok) {
    --outstanding_;
    writing_ = false;
    // A write that fails means that the call is over: the read is about to fail too.
    if (ok) events_.written();
  };
  on_finish_ = [this](bool) {
    --outstanding_;
    finished_ = true;
  };
  call_ = stub_.PrepareCall(&context_, "/softloss.v1.Scorer/ScoreStream", queue);
  ++outstanding_;
  call_->StartCall(&on_start_);
}

void Stream::Write(const grpc::ByteBuffer& message) {
  writing_ = true;
  ++outstanding_;
  call_->Write(message, &on_write_);
}

void Stream::Read() {
  ++outstanding_;
  call_->Read(&incoming_, &on_read_);
}

void Stream::Finish() {
  broken_ = true;
  ++outstanding_;
  call_->Finish(&status_, &on_finish_);
}

}  // namespace softloss::internal
