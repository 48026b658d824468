// AnnotationQuality on the completion queues. The disk and the analyses keep to their own workers, so
// that scoring does not wait for them.
#pragma once

#include "server/call.h"
#include "server/quality_service.h"
#include "server/worker_pool.h"
#include "softloss/v1/quality.grpc.pb.h"

namespace softloss {

using QualityGrpcService = v1::AnnotationQuality::AsyncService;

struct QualityEnv {
  const CallEnv* call = nullptr;
  QualityGrpcService* service = nullptr;
  QualityService* quality = nullptr;  // null: every call is answered UNIMPLEMENTED
  WorkerPool* workers = nullptr;
};

// Posts the first call of each method on the queue.
void AcceptQualityCalls(const QualityEnv* env);

}  // namespace softloss
