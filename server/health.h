// grpc.health.v1 on the completion queues: gRPC's own health service would start poller threads that
// take the connections over.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/call.h"

namespace softloss {

using HealthService = grpc::health::v1::Health::WithAsyncMethod_Check<
    grpc::health::v1::Health::WithAsyncMethod_Watch<grpc::health::v1::Health::Service>>;
using ServingStatus = grpc::health::v1::HealthCheckResponse::ServingStatus;

// Whether the server serves. The server as a whole ("") and our services share one status.
// Thread-safe.
class HealthState {
 public:
  bool serving() const { return serving_.load(); }
  // Afterwards every Watch must be told: CallRegistry::ForEach(OnTick).
  void SetServing(bool serving) { serving_.store(serving); }

  // SERVICE_UNKNOWN for a service that is not ours.
  ServingStatus Of(const std::string& service) const;

 private:
  std::atomic<bool> serving_{false};
};

struct HealthEnv {
  const CallEnv* call = nullptr;
  HealthService* service = nullptr;
  const HealthState* state = nullptr;
};

// Posts the first Check and Watch on the queue.
void AcceptHealthCalls(const HealthEnv* env);

}  // namespace softloss
