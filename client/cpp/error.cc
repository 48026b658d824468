#include "client/cpp/error.h"

#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/spec.h"
#include "softloss/client.h"

namespace softloss {
namespace {

constexpr char kPayload[] = "type.googleapis.com/softloss.v1.ItemError";

}  // namespace

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  v1::ItemError error;
  if (!payload || !error.ParseFromString(std::string(*payload))) return std::nullopt;
  return ErrorInfo{error.field(), error.retryable()};
}

bool IsRetryable(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return info && info->retryable;
}

namespace internal {

absl::Status FromItemError(const v1::ItemError& error) {
  const bool known = error.code() > 0 && error.code() <= 16;
  absl::Status status(
      known ? static_cast<absl::StatusCode>(error.code()) : absl::StatusCode::kInternal,
      error.message());
  v1::ItemError payload;
  payload.set_field(error.field());
  payload.set_retryable(error.retryable());
  status.SetPayload(kPayload, absl::Cord(payload.SerializeAsString()));
  return status;
}

absl::Status MakeError(absl::StatusCode code, const std::string& message, bool retryable) {
  v1::ItemError error;
  error.set_code(static_cast<int>(code));
  error.set_message(message);
  error.set_retryable(retryable);
  return FromItemError(error);
}

absl::Status FromCheck(const absl::Status& status) {
  v1::ItemError error;
  error.set_code(static_cast<int>(status.code()));
  error.set_message(std::string(status.message()));
  error.set_field(FieldOf(status));
  return FromItemError(error);
}

absl::Status FromStreamEnd(const grpc::Status& status) {
  if (status.ok()) {
    return MakeError(absl::StatusCode::kUnavailable, "the server closed the stream", true);
  }
  // CANCELLED and UNKNOWN are how a server that shuts down or a connection that breaks may look.
  const bool retryable = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                         status.error_code() == grpc::StatusCode::CANCELLED ||
                         status.error_code() == grpc::StatusCode::ABORTED ||
                         status.error_code() == grpc::StatusCode::UNKNOWN;
  return MakeError(static_cast<absl::StatusCode>(status.error_code()),
                   absl::StrCat("the stream broke: ", status.error_message()), retryable);
}

}  // namespace internal
}  // namespace softloss
