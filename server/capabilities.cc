#include "server/capabilities.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/spec.h"
#include "server/metrics.h"

namespace softloss {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64,
                             DType::kU8,  DType::kI32, DType::kI64};

v1::DType ToProto(DType dtype) { return static_cast<v1::DType>(dtype); }

// Each list varies one part of a key that every backend has: f32 softmax, f32 labels and gradient.
ScoreKey BaseKey() {
  ScoreKey key;
  key.loss = Loss::kSoftmaxCrossEntropy;
  key.classes = 2;
  key.gradient = DType::kF32;
  return key;
}

class CapabilitiesCall final : public std::enable_shared_from_this<CapabilitiesCall> {
 public:
  static void Accept(const CallEnv* env) {
    auto call = std::make_shared<CapabilitiesCall>(env);
    env->scorer->RequestGetCapabilities(&call->context_, &call->request_, &call->writer_,
                                        env->queue, env->queue, call->accepted_.Arm(call));
  }

  explicit CapabilitiesCall(const CallEnv* env) : env_(env) {}
  ~CapabilitiesCall() {
    if (live_) env_->calls->Remove(this);
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) return;
    Accept(env_);
    live_ = true;
    env_->calls->Add(this, {});
    start_ = env_->context->clock->Now();
    env_->context->metrics->RpcStarted(RpcMethod::kGetCapabilities);
    writer_.Finish(Capabilities(*env_->context, SharedMemorySocketFor(context_, *env_->context)),
                   grpc::Status::OK, finished_.Arm(shared_from_this()));
  }
  void OnFinished(bool) {
    env_->context->metrics->RpcHandled(
        RpcMethod::kGetCapabilities, grpc::StatusCode::OK,
        std::chrono::duration<double>(env_->context->clock->Now() - start_).count());
  }

  const CallEnv* const env_;
  bool live_ = false;
  TimePoint start_;
  grpc::ServerContext context_;
  v1::GetCapabilitiesRequest request_;
  grpc::ServerAsyncResponseWriter<v1::GetCapabilitiesResponse> writer_{&context_};
  Completion<CapabilitiesCall> accepted_{&CapabilitiesCall::OnAccepted};
  Completion<CapabilitiesCall> finished_{&CapabilitiesCall::OnFinished};
};

}  // namespace

v1::GetCapabilitiesResponse Capabilities(const ServingContext& context,
                                         const std::string& shared_memory_socket) {
  v1::GetCapabilitiesResponse r;
  r.set_server_version(context.version);
  r.set_backend(std::string(context.backend->name()));
  r.set_numerics_id(context.backend->numerics_id());
  const auto supports = [&](const ScoreKey& key) { return context.backend->Supports(key).ok(); };
  for (Loss loss : AllLosses()) {
    ScoreKey key = BaseKey();
    key.loss = loss;
    if (supports(key)) r.add_losses(static_cast<v1::Loss>(loss));
  }
  for (DType dtype : kDTypes) {
    ScoreKey key = BaseKey();
    key.prediction = dtype;
    if (IsFloat(dtype) && supports(key)) r.add_prediction_dtypes(ToProto(dtype));
    key = BaseKey();
    key.gradient = dtype;
    if (IsFloat(dtype) && supports(key)) r.add_gradient_dtypes(ToProto(dtype));
    key = BaseKey();
    key.label.dtype = dtype;
    if (IsInteger(dtype)) {
      key.label.kind = LabelKind::kClassId;
      if (supports(key)) r.add_class_id_dtypes(ToProto(dtype));
    } else if (supports(key)) {
      r.add_label_dtypes(ToProto(dtype));
    }
  }
  for (TailRule tail :
       {TailRule::kRenormalize, TailRule::kUniform, TailRule::kBucket, TailRule::kZero}) {
    ScoreKey key = BaseKey();
    key.label = {.kind = LabelKind::kSparse, .k = 1, .tail = tail};
    if (supports(key)) r.add_tail_rules(static_cast<v1::TailRule>(tail));
  }
  for (v1::LabelCheck check : {v1::REPORT, v1::STRICT, v1::RENORMALIZE}) r.add_label_checks(check);
  r.add_prediction_kinds(v1::LOGITS);
  ScoreKey general = BaseKey();
  general.general = true;
  if (supports(general)) r.add_prediction_kinds(v1::PROBABILITIES);
  for (v1::Profile profile : {v1::TORCH, v1::CAFFE}) r.add_profiles(profile);
  r.set_max_message_bytes(context.max_message_bytes);
  r.set_max_chunk_bytes(context.max_chunk_bytes);
  r.set_stream_credit_bytes(context.stream_credit_bytes);
  r.set_stream_credit_items(context.stream_credit_items);
  r.set_shared_memory(!shared_memory_socket.empty());
  r.set_shared_memory_socket(shared_memory_socket);
  for (const std::string& field : UnimplementedFields()) r.add_unimplemented_fields(field);
  if (context.regions == nullptr) {
    for (const char* tensor : {"prediction", "label", "gradient"}) {
      r.add_unimplemented_fields(absl::StrCat("item.", tensor, "_memory"));
    }
  }
  return r;
}

void AcceptCapabilitiesCalls(const CallEnv* env) { CapabilitiesCall::Accept(env); }

}  // namespace softloss
