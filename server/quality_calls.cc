#include "server/quality_calls.h"

#include <mutex>
#include <optional>
#include <utility>

#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include "server/byte_buffer.h"
#include "server/metrics.h"

namespace softloss {
namespace {

// Messages of an analysis; stock clients take 4 MiB.
constexpr std::int64_t kPartBytes = std::int64_t{1} << 20;

// Whether calls can be served at all now.
absl::Status Usable(const QualityEnv& env) {
  if (env.quality == nullptr) {
    return absl::UnimplementedError(
        "AnnotationQuality: this server keeps no campaigns: it was started without --quality_dir");
  }
  if (*env.call->draining) return absl::UnavailableError("the server is shutting down");
  return absl::OkStatus();
}

// What the calls of all methods share.
class QualityCall {
 public:
  QualityCall(const QualityEnv* env, RpcMethod method) : env_(env), method_(method) {}
  ~QualityCall() {
    if (live_) env_->call->calls->Remove(this);
  }

 protected:
  Metrics& metrics() const { return *env_->call->context->metrics; }
  void Started(std::weak_ptr<LiveCall> live) {
    live_ = true;
    env_->call->calls->Add(this, std::move(live));
    start_ = env_->call->context->clock->Now();
    owner_ = TenantName(context_);
    metrics().RpcStarted(method_);
  }
  void Handled(const absl::Status& status) {
    const Duration taken = env_->call->context->clock->Now() - start_;
    metrics().RpcHandled(method_, static_cast<int>(status.code()),
                         std::chrono::duration<double>(taken).count());
  }

  const QualityEnv* const env_;
  const RpcMethod method_;
  bool live_ = false;
  TimePoint start_;
  std::string owner_;
  grpc::ServerContext context_;
};

// A method of one request and one response.
template <typename Request, typename Response>
class QualityUnaryCall final
    : public QualityCall,
      public std::enable_shared_from_this<QualityUnaryCall<Request, Response>> {
 public:
  struct Method {
    void (QualityGrpcService::*accept)(grpc::ServerContext*, Request*,
                                       grpc::ServerAsyncResponseWriter<Response>*,
                                       grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*);
    absl::StatusOr<Response> (QualityService::*serve)(std::string_view owner, const Request&);
    RpcMethod metric;
  };

  static void Accept(const QualityEnv* env, const Method& method) {
    auto call = std::make_shared<QualityUnaryCall>(env, method);
    (env->service->*method.accept)(&call->context_, &call->request_, &call->writer_,
                                   env->call->queue, env->call->queue, call->accepted_.Arm(call));
  }

  QualityUnaryCall(const QualityEnv* env, const Method& method)
      : QualityCall(env, method.metric), what_(method) {}

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_, what_);
    Started({});
    status_ = Usable(*env_);
    if (!status_.ok()) {
      Finish({});
      return;
    }
    env_->workers->Submit([self = this->shared_from_this()] {
      absl::StatusOr<Response> response =
          (self->env_->quality->*self->what_.serve)(self->owner_, self->request_);
      self->status_ = response.status();
      self->Finish(response.ok() ? *std::move(response) : Response());
    });
  }
  void Finish(const Response& response) {
    void* const tag = finished_.Arm(this->shared_from_this());
    if (status_.ok()) {
      writer_.Finish(response, grpc::Status::OK, tag);
    } else {
      writer_.FinishWithError(ToGrpcStatus(status_), tag);
    }
  }
  void OnFinished(bool) { Handled(status_); }

  const Method what_;
  Request request_;
  absl::Status status_;
  grpc::ServerAsyncResponseWriter<Response> writer_{&context_};
  Completion<QualityUnaryCall> accepted_{&QualityUnaryCall::OnAccepted};
  Completion<QualityUnaryCall> finished_{&QualityUnaryCall::OnFinished};
};

// Feed: read, store, answer, and again; so a stream has one request in memory.
class FeedCall final : public QualityCall,
                       public LiveCall,
                       public std::enable_shared_from_this<FeedCall> {
 public:
  static void Accept(const QualityEnv* env) {
    auto call = std::make_shared<FeedCall>(env);
    env->service->RequestFeed(&call->context_, &call->stream_, env->call->queue, env->call->queue,
                              call->accepted_.Arm(call));
  }
  explicit FeedCall(const QualityEnv* env) : QualityCall(env, RpcMethod::kQualityFeed) {}

  void OnTick(TimePoint) override {}
  // What was read is stored and answered first.
  void OnDrain() override {
    std::lock_guard<std::mutex> lock(mutex_);
    draining_ = true;
    if (reading_) Finish(absl::UnavailableError("the server is shutting down"));
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_);
    Started(weak_from_this());
    std::lock_guard<std::mutex> lock(mutex_);
    ReadOrFinish();
  }
  void OnRead(bool ok) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      reading_ = false;
      if (finishing_) return;
      if (!ok) {  // the client has no more, or is gone and does not care
        Finish(absl::OkStatus());
        return;
      }
    }
    metrics().MessageReceived(method_);
    env_->workers->Submit([self = shared_from_this()] {
      const v1::FeedResponse response = self->env_->quality->Feed(self->owner_, self->request_);
      self->metrics().MessageSent(self->method_);
      self->stream_.Write(response, self->written_.Arm(self));
    });
  }
  void OnWritten(bool ok) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ok) {
      ReadOrFinish();
    } else {
      Finish(absl::CancelledError());
    }
  }
  // The rest with mutex_ held.
  void ReadOrFinish() {
    const absl::Status usable =
        draining_ ? absl::UnavailableError("the server is shutting down") : Usable(*env_);
    if (!usable.ok()) {
      Finish(usable);
      return;
    }
    reading_ = true;
    stream_.Read(&request_, read_.Arm(shared_from_this()));
  }
  void Finish(const absl::Status& status) {
    if (std::exchange(finishing_, true)) return;
    status_ = status;
    stream_.Finish(ToGrpcStatus(status), finished_.Arm(shared_from_this()));
  }
  void OnFinished(bool) { Handled(status_); }

  std::mutex mutex_;  // the three below
  bool reading_ = false;
  bool draining_ = false;
  bool finishing_ = false;
  v1::FeedRequest request_;
  absl::Status status_;
  grpc::ServerAsyncReaderWriter<v1::FeedResponse, v1::FeedRequest> stream_{&context_};
  Completion<FeedCall> accepted_{&FeedCall::OnAccepted};
  Completion<FeedCall> read_{&FeedCall::OnRead};
  Completion<FeedCall> written_{&FeedCall::OnWritten};
  Completion<FeedCall> finished_{&FeedCall::OnFinished};
};

class AnalyzeCall final : public QualityCall, public std::enable_shared_from_this<AnalyzeCall> {
 public:
  static void Accept(const QualityEnv* env) {
    auto call = std::make_shared<AnalyzeCall>(env);
    env->service->RequestAnalyze(&call->context_, &call->request_, &call->writer_, env->call->queue,
                                 env->call->queue, call->accepted_.Arm(call));
  }
  explicit AnalyzeCall(const QualityEnv* env) : QualityCall(env, RpcMethod::kQualityAnalyze) {}

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_);
    Started({});
    if (absl::Status usable = Usable(*env_); !usable.ok()) {
      Finish(usable);
      return;
    }
    env_->workers->Submit([self = shared_from_this()] {
      absl::StatusOr<CampaignAnalysis> analysis =
          self->env_->quality->Analyze(self->owner_, self->request_);
      if (!analysis.ok()) {
        self->Finish(analysis.status());
        return;
      }
      self->parts_.emplace(*std::move(analysis), kPartBytes);
      self->WriteNext();
    });
  }
  void WriteNext() {
    v1::AnalyzeResponse part;
    if (parts_->Next(&part)) {
      metrics().MessageSent(method_);
      writer_.Write(part, written_.Arm(shared_from_this()));
    } else {
      Finish(absl::OkStatus());
    }
  }
  void OnWritten(bool ok) {
    if (ok) {
      WriteNext();
    } else {
      Finish(absl::CancelledError());
    }
  }
  void Finish(const absl::Status& status) {
    status_ = status;
    writer_.Finish(ToGrpcStatus(status), finished_.Arm(shared_from_this()));
  }
  void OnFinished(bool) { Handled(status_); }

  v1::AnalyzeRequest request_;
  absl::Status status_;
  std::optional<AnalysisParts> parts_;
  grpc::ServerAsyncWriter<v1::AnalyzeResponse> writer_{&context_};
  Completion<AnalyzeCall> accepted_{&AnalyzeCall::OnAccepted};
  Completion<AnalyzeCall> written_{&AnalyzeCall::OnWritten};
  Completion<AnalyzeCall> finished_{&AnalyzeCall::OnFinished};
};

template <typename Request, typename Response, typename AcceptFn>
void AcceptUnary(const QualityEnv* env, AcceptFn accept,
                 absl::StatusOr<Response> (QualityService::*serve)(std::string_view,
                                                                   const Request&),
                 RpcMethod metric) {
  QualityUnaryCall<Request, Response>::Accept(env, {accept, serve, metric});
}

}  // namespace

void AcceptQualityCalls(const QualityEnv* env) {
  AcceptUnary(env, &QualityGrpcService::RequestOpenCampaign, &QualityService::OpenCampaign,
              RpcMethod::kQualityOpenCampaign);
  AcceptUnary(env, &QualityGrpcService::RequestListCampaigns, &QualityService::ListCampaigns,
              RpcMethod::kQualityListCampaigns);
  AcceptUnary(env, &QualityGrpcService::RequestDeleteCampaign, &QualityService::DeleteCampaign,
              RpcMethod::kQualityDeleteCampaign);
  AcceptUnary(env, &QualityGrpcService::RequestCloseItems, &QualityService::CloseItems,
              RpcMethod::kQualityCloseItems);
  FeedCall::Accept(env);
  AnalyzeCall::Accept(env);
}

}  // namespace softloss
