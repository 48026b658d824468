#include "server/io_thread.h"

#include <pthread.h>

#include <utility>

#include "server/capabilities.h"
#include "server/dispatcher.h"
#include "server/stream_call.h"
#include "server/unary_call.h"

namespace softloss {
namespace {

// Calls that may arrive while another is being accepted.
constexpr int kScoreAccepts = 16;
constexpr int kStreamAccepts = 4;

// What has arrived is taken in before bulk is scored, so that it has its turn, but not for ever.
constexpr int kMostEvents = 32;

}  // namespace

IoThread::IoThread(std::unique_ptr<grpc::ServerCompletionQueue> queue, const CallEnv& env,
                   const HealthEnv& health, const QualityEnv& quality)
    : queue_(std::move(queue)), env_(env), health_(health), quality_(quality) {
  env_.queue = queue_.get();
  health_.call = &env_;
  quality_.call = &env_;
}

void IoThread::Start() {
  for (int i = 0; i < kScoreAccepts; ++i) UnaryCall::Accept(&env_);
  for (int i = 0; i < kStreamAccepts; ++i) StreamCall::Accept(&env_);
  AcceptCapabilitiesCalls(&env_);
  AcceptHealthCalls(&health_);
  AcceptQualityCalls(&quality_);
  thread_ = std::thread([this] { Serve(); });
}

void IoThread::Serve() {
  pthread_setname_np(pthread_self(), "softloss-io");
  void* tag;
  bool ok;
  int events = 0;  // since a task was last scored
  for (;;) {
    if (!env_.dispatcher->waiting()) {
      if (!queue_->Next(&tag, &ok)) return;
      static_cast<Tag*>(tag)->Proceed(ok);
      events = 0;
    } else if (events < kMostEvents &&
               queue_->AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) ==
                   grpc::CompletionQueue::GOT_EVENT) {
      static_cast<Tag*>(tag)->Proceed(ok);
      ++events;
    } else {
      env_.dispatcher->ScoreNext();
      events = 0;
    }
  }
}

void IoThread::Shutdown() {
  if (shut_down_) return;
  shut_down_ = true;
  queue_->Shutdown();
  if (thread_.joinable()) {
    thread_.join();
  } else {
    Serve();  // a queue must be empty before it is destroyed
  }
}

}  // namespace softloss
