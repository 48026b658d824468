// One completion queue and the one thread that serves it.
#pragma once

#include <memory>
#include <thread>

#include <grpcpp/server_builder.h>

#include "server/call.h"
#include "server/health.h"
#include "server/quality_calls.h"

namespace softloss {

// The thread that waits in Next() also receives and parses, so a stream stays on one core.
class IoThread {
 public:
  // The environments are templates; the thread has copies with its own queue.
  IoThread(std::unique_ptr<grpc::ServerCompletionQueue> queue, const CallEnv& env,
           const HealthEnv& health, const QualityEnv& quality);
  ~IoThread() { Shutdown(); }

  // Posts the accepts and starts the thread; once the server has started.
  void Start();

  // Ends the thread once nothing is outstanding: after grpc::Server::Shutdown and the last call.
  void Shutdown();

 private:
  void Serve();

  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  CallEnv env_;
  HealthEnv health_;
  QualityEnv quality_;
  bool shut_down_ = false;
  std::thread thread_;
};

}  // namespace softloss
