#include "server/health.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics.h"
#include "softloss/v1/quality.grpc.pb.h"

namespace softloss {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

class CheckCall final : public std::enable_shared_from_this<CheckCall> {
 public:
  static void Accept(const HealthEnv* env) {
    auto call = std::make_shared<CheckCall>(env);
    env->service->RequestCheck(&call->context_, &call->request_, &call->writer_, env->call->queue,
                               env->call->queue, call->accepted_.Arm(call));
  }

  explicit CheckCall(const HealthEnv* env) : env_(env) {}
  ~CheckCall() {
    if (live_) env_->call->calls->Remove(this);
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_);
    live_ = true;
    env_->call->calls->Add(this, {});
    env_->call->context->metrics->RpcStarted(RpcMethod::kHealthCheck);
    HealthCheckResponse response;
    response.set_status(env_->state->Of(request_.service()));
    known_ = response.status() != HealthCheckResponse::SERVICE_UNKNOWN;
    if (!known_) {
      writer_.FinishWithError(
          grpc::Status(grpc::StatusCode::NOT_FOUND,
                       absl::StrCat("service: no service \"", request_.service(), "\" here")),
          finished_.Arm(shared_from_this()));
    } else {
      writer_.Finish(response, grpc::Status::OK, finished_.Arm(shared_from_this()));
    }
  }
  void OnFinished(bool) {
    env_->call->context->metrics->RpcHandled(
        RpcMethod::kHealthCheck, known_ ? grpc::StatusCode::OK : grpc::StatusCode::NOT_FOUND);
  }

  const HealthEnv* const env_;
  bool live_ = false;
  bool known_ = false;
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncResponseWriter<HealthCheckResponse> writer_{&context_};
  Completion<CheckCall> accepted_{&CheckCall::OnAccepted};
  Completion<CheckCall> finished_{&CheckCall::OnFinished};
};

class WatchCall final : public LiveCall, public std::enable_shared_from_this<WatchCall> {
 public:
  static void Accept(const HealthEnv* env) {
    auto call = std::make_shared<WatchCall>(env);
    call->context_.AsyncNotifyWhenDone(call->done_.tag());
    env->service->RequestWatch(&call->context_, &call->request_, &call->writer_, env->call->queue,
                               env->call->queue, call->accepted_.Arm(call));
  }

  explicit WatchCall(const HealthEnv* env) : env_(env) {}
  ~WatchCall() override {
    if (live_) env_->call->calls->Remove(this);
  }

  void OnTick(TimePoint) override {
    std::lock_guard<std::mutex> lock(mutex_);
    Advance();
  }
  void OnDrain() override {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    Advance();
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_);
    live_ = true;
    env_->call->calls->Add(this, weak_from_this());
    env_->call->context->metrics->RpcStarted(RpcMethod::kHealthWatch);
    done_.Arm(shared_from_this());
    if (*env_->call->draining) {
      OnDrain();
    } else {
      OnTick({});
    }
  }
  void OnWritten(bool ok) {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    ended_ |= !ok;
    Advance();
  }
  void OnDone(bool) {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    Advance();
  }
  void OnFinished(bool) {
    env_->call->context->metrics->RpcHandled(RpcMethod::kHealthWatch, grpc::StatusCode::CANCELLED);
  }

  // Writes the status if it is not the one last written. With mutex_ held.
  void Advance() {
    if (writing_ || finishing_) return;
    const ServingStatus now = env_->state->Of(request_.service());
    if (now != told_ && !context_.IsCancelled()) {
      told_ = now;
      writing_ = true;
      HealthCheckResponse response;
      response.set_status(now);
      writer_.Write(response, written_.Arm(shared_from_this()));
    } else if (ended_) {
      finishing_ = true;
      writer_.Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the server is shutting down"),
                     finished_.Arm(shared_from_this()));
    }
  }

  const HealthEnv* const env_;
  bool live_ = false;
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncWriter<HealthCheckResponse> writer_{&context_};
  std::mutex mutex_;
  std::optional<ServingStatus> told_;
  bool writing_ = false;
  bool ended_ = false;
  bool finishing_ = false;
  Completion<WatchCall> accepted_{&WatchCall::OnAccepted};
  Completion<WatchCall> written_{&WatchCall::OnWritten};
  Completion<WatchCall> finished_{&WatchCall::OnFinished};
  Completion<WatchCall> done_{&WatchCall::OnDone};
};

}  // namespace

ServingStatus HealthState::Of(const std::string& service) const {
  if (!service.empty() && service != v1::Scorer::service_full_name() &&
      service != v1::AnnotationQuality::service_full_name()) {
    return HealthCheckResponse::SERVICE_UNKNOWN;
  }
  return serving() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

void AcceptHealthCalls(const HealthEnv* env) {
  CheckCall::Accept(env);
  WatchCall::Accept(env);
}

}  // namespace softloss
