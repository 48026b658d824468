// Calls on completion queues: tags, what a call needs, and the register of live calls.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include <grpcpp/server_context.h>

#include "server/clock.h"
#include "server/item.h"
#include "softloss/v1/scorer.grpc.pb.h"

namespace softloss {

class Dispatcher;
class HealthState;
class Metrics;

// What a completion queue hands back.
class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Proceed(bool ok) = 0;
};

// One kind of operation of a T: while one is outstanding, its T stays alive.
template <typename T>
class Completion final : public Tag {
 public:
  explicit Completion(void (T::*handler)(bool ok)) : handler_(handler) {}

  void* Arm(std::shared_ptr<T> owner) {
    owner_ = std::move(owner);
    return tag();
  }
  void* tag() { return static_cast<Tag*>(this); }

  void Proceed(bool ok) override {
    const std::shared_ptr<T> owner = std::move(owner_);
    (owner.get()->*handler_)(ok);
  }

 private:
  void (T::*handler_)(bool ok);
  std::shared_ptr<T> owner_;
};

// A call that the server tells about time and shutdown.
class LiveCall {
 public:
  virtual ~LiveCall() = default;
  virtual void OnTick(TimePoint now) = 0;
  virtual void OnDrain() = 0;
};

// All calls that were accepted and are not destroyed. Thread-safe.
class CallRegistry {
 public:
  // `call` may be null: counted, but not told anything.
  void Add(const void* key, std::weak_ptr<LiveCall> call);
  void Remove(const void* key);
  void ForEach(const std::function<void(LiveCall&)>& visit);
  // Blocks until no call is left, or until `deadline`; returns whether none is.
  bool WaitUntilEmpty(TimePoint deadline);

 private:
  std::mutex mutex_;
  std::condition_variable empty_;
  std::unordered_map<const void*, std::weak_ptr<LiveCall>> calls_;
};

// The two scoring methods take raw bytes; the others ordinary messages.
using ScorerService = v1::Scorer::WithRawMethod_Score<v1::Scorer::WithRawMethod_ScoreStream<
    v1::Scorer::WithAsyncMethod_GetCapabilities<v1::Scorer::Service>>>;

// What a call needs. Outlives all calls.
struct CallEnv {
  const ServingContext* context = nullptr;
  Dispatcher* dispatcher = nullptr;
  ScorerService* scorer = nullptr;
  CallRegistry* calls = nullptr;
  grpc::ServerCompletionQueue* queue = nullptr;
  const std::atomic<bool>* draining = nullptr;  // calls accepted from now on are drained at once
};

// Where the caller may share memory; empty if it is not on this host, or if no one may.
std::string SharedMemorySocketFor(const grpc::ServerContext& caller, const ServingContext& context);

// Who is calling: the client certificate's name, "unix" for a Unix socket, otherwise "default".
std::string TenantName(const grpc::ServerContext& context);

}  // namespace softloss
